//! Tests that wait for minutes in real time, and do little else. Tests begin in the order of their names, and this name is the
//! first one: while these wait, others run. Begun at the end they would go on alone, one beside the other, on an idle machine.

mod app_state_key;
mod pairing_window;
mod rights;
