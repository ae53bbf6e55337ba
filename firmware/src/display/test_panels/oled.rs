//! An SSD1306: commands, pages and remapping as its data sheet has them.

/// An SSD1306 with a glass of 128 x 64.
#[derive(Debug)]
pub(crate) struct OledPanel {
    /// `[8 * 128]`: a byte is 8 pixels, the lowest bit on top.
    memory: Vec<u8>,
    horizontal: bool,
    columns: (u8, u8),
    pages: (u8, u8),
    cursor: (u8, u8),
    remapped: bool,
    reversed: bool,
    on: bool,
    pump: bool,
    pub(crate) contrast: u8,
}

impl Default for OledPanel {
    fn default() -> Self {
        Self {
            memory: vec![0x5a; 8 * 128],
            horizontal: false,
            columns: (0, 127),
            pages: (0, 7),
            cursor: (0, 0),
            remapped: false,
            reversed: false,
            on: false,
            pump: false,
            contrast: 127,
        }
    }
}

impl OledPanel {
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let (&control, rest) = bytes.split_first().unwrap();
        match control {
            0x00 => self.commands(rest),
            0x40 => rest.iter().for_each(|&byte| self.data(byte)),
            _ => panic!("control byte {control:#x}"),
        }
    }

    fn commands(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.iter().copied();
        while let Some(command) = bytes.next() {
            let mut arg = || bytes.next().unwrap_or_else(|| panic!("command {command:#x} without its argument"));
            match command {
                0x20 => self.horizontal = arg() == 0,
                0x21 => {
                    self.columns = (arg() & 127, arg() & 127);
                    self.cursor.0 = self.columns.0;
                }
                0x22 => {
                    self.pages = (arg() & 7, arg() & 7);
                    self.cursor.1 = self.pages.0;
                }
                0x81 => self.contrast = arg(),
                0x8d => self.pump = arg() & 4 != 0,
                0xa0 | 0xa1 => self.remapped = command == 0xa1,
                0xae | 0xaf => self.on = command == 0xaf,
                0xc0 | 0xc8 => self.reversed = command == 0xc8,
                0xa8 | 0xd3 | 0xd5 | 0xd9 | 0xda | 0xdb => {
                    arg();
                }
                _ => {}
            }
        }
    }

    fn data(&mut self, byte: u8) {
        assert!(self.horizontal, "only horizontal addressing is modelled");
        let (column, page) = self.cursor;
        // The remapping acts on what is written from now on.
        let column_of_glass = if self.remapped { column } else { 127 - column };
        self.memory[usize::from(page) * 128 + usize::from(column_of_glass)] = byte;
        self.cursor = match (column == self.columns.1, page == self.pages.1) {
            (false, _) => (column + 1, page),
            (true, false) => (self.columns.0, page + 1),
            (true, true) => (self.columns.0, self.pages.0),
        };
    }

    /// What a person sees who holds the module with its pins on top: rows of `#` and `.`; nothing where it is off.
    pub(crate) fn glass(&self) -> Option<Vec<String>> {
        (self.on && self.pump).then(|| {
            let lit = |x: usize, y: usize| {
                let row = if self.reversed { y } else { 63 - y };
                self.memory[row / 8 * 128 + x] & (1 << (row % 8)) != 0
            };
            (0..64).map(|y| (0..128).map(|x| if lit(x, y) { '#' } else { '.' }).collect()).collect()
        })
    }
}
