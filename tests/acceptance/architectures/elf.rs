//! Programs and libraries of any architecture, without a compiler for it: files that hold what is read of them and nothing that runs.

use std::{fs, path::Path};

pub const AMD64: u16 = 62;
pub const ARM64: u16 = 183;

const HEADER: u16 = 64;
const SEGMENT: u16 = 56;
const SEGMENTS: u16 = 3;

pub struct Elf<'a> {
    pub machine: u16,
    /// A static program has none.
    pub loader: Option<&'a str>,
    pub needs: &'a [&'a str],
    /// The size of a page that it is laid out for.
    pub pages: u64,
}

impl Elf<'_> {
    pub fn write(&self, file: &Path) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, self.bytes()).unwrap();
    }

    fn bytes(&self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut named = |name: &str| {
            let at = strings.len() as u64;
            strings.extend(name.bytes().chain([0]));
            at
        };
        let loader = self.loader.map(&mut named);
        let needs: Vec<u64> = self.needs.iter().map(|name| named(name)).collect();
        let strings_at = u64::from(HEADER + SEGMENTS * SEGMENT);
        strings.resize(strings.len().next_multiple_of(8), 0);

        let (needed, table, table_size, end) = (1, 5, 10, 0);
        let mut dynamic: Vec<[u64; 2]> = needs.into_iter().map(|at| [needed, at]).collect();
        dynamic.extend([[table, strings_at], [table_size, strings.len() as u64], [end, 0]]);
        let dynamic_at = strings_at + strings.len() as u64;
        let size = dynamic_at + 16 * dynamic.len() as u64;

        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        for half in [3, self.machine] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend(1u32.to_le_bytes());
        for address in [0, u64::from(HEADER), 0] {
            bytes.extend(address.to_le_bytes());
        }
        bytes.extend(0u32.to_le_bytes());
        for half in [HEADER, SEGMENT, SEGMENTS, 64, 0, 0] {
            bytes.extend(half.to_le_bytes());
        }
        // Of a program without a loader the segment is there and says nothing.
        let interpreter = match loader {
            Some(at) => (3u32, strings_at + at, self.loader.unwrap_or_default().len() as u64 + 1, 1),
            None => (0, 0, 0, 1),
        };
        for (kind, at, length, alignment) in
            [interpreter, (1, 0, size, self.pages), (2, dynamic_at, size - dynamic_at, 8)]
        {
            bytes.extend(kind.to_le_bytes());
            bytes.extend(4u32.to_le_bytes());
            for value in [at, at, at, length, length, alignment] {
                bytes.extend(value.to_le_bytes());
            }
        }
        bytes.extend(strings);
        bytes.extend(dynamic.into_iter().flatten().flat_map(u64::to_le_bytes));
        bytes
    }
}
