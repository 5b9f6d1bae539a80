//! The routes below `/api/v1/sessions/`: one file for each thing that is asked for.

pub mod act;
pub mod bulk;
pub mod delete;
pub mod init;
pub mod qr;
pub mod read;
pub mod rename;
