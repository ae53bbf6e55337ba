//! An ST7789 or ILI9341: commands, windows and turning as their data sheets have them.

use embedded_graphics::pixelcolor::raw::RawU16;
use embedded_graphics::pixelcolor::{Rgb565, Rgb888};
use embedded_graphics::prelude::*;

use crate::display::Canvas;

/// What a pixel of a colour panel's memory holds before it is written.
const NOISE: u16 = 0xa53c;

/// An ST7789 or ILI9341 with its glass.
#[derive(Debug)]
pub(crate) struct ColourPanel {
    /// The glass is read from the other side of the memory's columns.
    mirrored: bool,
    /// Blue and red are swapped on the glass.
    bgr: bool,
    /// The glass shows negatives.
    negative: bool,
    /// Pulses on the reset pin and commands to reset.
    pub(crate) resets: usize,
    /// `[320 * 240]`, as the controller addresses it without any turning.
    memory: Vec<u16>,
    madctl: u8,
    inverted: bool,
    format: u8,
    awake: bool,
    on: bool,
    columns: (u16, u16),
    rows: (u16, u16),
    cursor: (u16, u16),
    command: u8,
    args: Vec<u8>,
}

impl Default for ColourPanel {
    fn default() -> Self {
        Self {
            mirrored: false,
            bgr: false,
            negative: true,
            resets: 0,
            memory: vec![NOISE; 240 * 320],
            madctl: 0,
            inverted: false,
            format: 0x66,
            awake: false,
            on: false,
            columns: (0, 239),
            rows: (0, 319),
            cursor: (0, 0),
            command: 0,
            args: Vec::new(),
        }
    }
}

impl ColourPanel {
    /// Glass of the usual ILI9341 modules.
    pub(crate) fn ili9341() -> Self {
        Self { mirrored: true, bgr: true, negative: false, ..Self::default() }
    }

    /// The same panel after it was pulled out and plugged in again.
    pub(crate) fn lose_power(&mut self) {
        self.reset();
        self.resets -= 1;
    }

    pub(super) fn reset(&mut self) {
        let Self { mirrored, bgr, negative, resets, .. } = *self;
        *self = Self { mirrored, bgr, negative, resets: resets + 1, ..Self::default() };
    }

    pub(super) fn receive(&mut self, is_command: bool, bytes: &[u8]) {
        for &byte in bytes {
            if is_command {
                self.begin(byte);
            } else {
                self.args.push(byte);
                self.take_args();
            }
        }
    }

    fn begin(&mut self, command: u8) {
        self.command = command;
        self.args.clear();
        match command {
            0x01 => self.reset(),
            0x10 => self.awake = false,
            0x11 => self.awake = true,
            0x20 => self.inverted = false,
            0x21 => self.inverted = true,
            0x28 => self.on = false,
            0x29 => self.on = true,
            0x2c => self.cursor = (self.columns.0, self.rows.0),
            _ => {}
        }
    }

    fn take_args(&mut self) {
        let pair = |args: &[u8], at: usize| u16::from_be_bytes([args[at], args[at + 1]]);
        match (self.command, self.args.len()) {
            (0x36, 1) => self.madctl = self.args[0],
            (0x3a, 1) => self.format = self.args[0],
            (0x2a, 4) => self.columns = (pair(&self.args, 0), pair(&self.args, 2)),
            (0x2b, 4) => self.rows = (pair(&self.args, 0), pair(&self.args, 2)),
            (0x2c, 2) => {
                let value = pair(&self.args, 0);
                self.args.clear();
                let (column, row) = self.cursor;
                if let Some(at) = self.place(column, row) {
                    self.memory[at] = value;
                }
                self.cursor = match (column == self.columns.1, row == self.rows.1) {
                    (false, _) => (column + 1, row),
                    (true, false) => (self.columns.0, row + 1),
                    (true, true) => (self.columns.0, self.rows.0),
                };
            }
            _ => {}
        }
    }

    /// Where the memory holds the pixel at `column` and `row` of the host: MV swaps, then MX and MY count from the other end.
    fn place(&self, column: u16, row: u16) -> Option<usize> {
        let (x, y) = if self.madctl & 0x20 == 0 { (column, row) } else { (row, column) };
        if x >= 240 || y >= 320 {
            return None;
        }
        let x = if self.madctl & 0x40 == 0 { x } else { 239 - x };
        let y = if self.madctl & 0x80 == 0 { y } else { 319 - y };
        Some(usize::from(y) * 240 + usize::from(x))
    }

    /// What a person sees at the glass of `size` whose memory begins at `offset`: row by row, `None` where it is dark.
    pub(crate) fn glass(&self, size: (u16, u16), offset: (u16, u16)) -> Vec<Option<[u8; 3]>> {
        let mut seen = Vec::new();
        for y in 0..size.1 {
            for x in 0..size.0 {
                let column = offset.0 + if self.mirrored { size.0 - 1 - x } else { x };
                let value = self.memory[usize::from(offset.1 + y) * 240 + usize::from(column)];
                let shows = self.on && self.awake && self.format & 7 == 5;
                seen.push(shows.then(|| self.colour(value)));
            }
        }
        seen
    }

    fn colour(&self, value: u16) -> [u8; 3] {
        let value = if self.inverted == self.negative { value } else { !value };
        let colour = Rgb888::from(Rgb565::from(RawU16::new(value)));
        let swapped = (self.madctl & 0x08 != 0) != self.bgr;
        if swapped { [colour.b(), colour.g(), colour.r()] } else { [colour.r(), colour.g(), colour.b()] }
    }
}

/// What a person sees of `canvas` that is turned clockwise by `quarters` of a turn.
pub(crate) fn turned(canvas: &Canvas, quarters: usize) -> Vec<Option<[u8; 3]>> {
    let Size { width, height } = canvas.size();
    let (w, h) = (width as i32, height as i32);
    let (glass_w, glass_h) = if quarters.is_multiple_of(2) { (w, h) } else { (h, w) };
    let mut seen = Vec::new();
    for y in 0..glass_h {
        for x in 0..glass_w {
            let from = match quarters {
                0 => Point::new(x, y),
                1 => Point::new(y, h - 1 - x),
                2 => Point::new(w - 1 - x, h - 1 - y),
                _ => Point::new(w - 1 - y, x),
            };
            let colour = Rgb888::from(canvas.pixel(from).unwrap());
            seen.push(Some([colour.r(), colour.g(), colour.b()]));
        }
    }
    seen
}
