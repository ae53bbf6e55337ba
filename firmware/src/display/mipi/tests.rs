use super::super::Display;
use super::super::test_panels::{ColourPanel, TestHeader, turned};
use super::*;
use embedded_graphics::prelude::*;

fn display(header: &TestHeader, uri: &str) -> Recovering {
    let parsed = DisplayUri::parse(uri).unwrap();
    open(parsed, Arc::new(header.clone()), |_| {}).unwrap().with_pause(Duration::ZERO)
}

/// A canvas on which no two neighbours are alike.
fn pattern(size: (u16, u16)) -> Canvas {
    let mut canvas = Canvas::new(size.0, size.1);
    let area = canvas.bounding_box();
    let colours: Vec<Rgb565> =
        area.points().map(|p| Rgb565::new(p.x as u8 & 31, p.y as u8 & 63, (p.x * 5 + p.y * 3) as u8 & 31)).collect();
    canvas.fill_contiguous(&area, colours).unwrap();
    canvas
}

#[test]
fn every_panel_shows_the_canvas_turned_as_asked() {
    for (quarters, rotate) in [0, 90, 180, 270].into_iter().enumerate() {
        for (size, offset) in
            [((240, 240), (0, 0)), ((240, 320), (0, 0)), ((135, 240), (52, 40)), ((170, 320), (35, 0))]
        {
            let header = TestHeader::new();
            let uri = format!(
                "st7789://spi0.0?dc=25&reset=27&rotate={rotate}&size={}x{}&offset={},{}",
                size.0, size.1, offset.0, offset.1
            );
            let mut display = display(&header, &uri);
            let canvas = pattern(display.size());
            display.flush(&canvas).unwrap();
            assert!(header.0.lock().unwrap().colour.glass(size, offset) == turned(&canvas, quarters), "{uri}");
        }
        let header = TestHeader::new();
        header.0.lock().unwrap().colour = ColourPanel::ili9341();
        let mut display = display(&header, &format!("ili9341://spi0.0?dc=25&reset=27&rotate={rotate}"));
        assert_eq!(display.size(), if quarters % 2 == 0 { (320, 240) } else { (240, 320) });
        let canvas = pattern(display.size());
        display.flush(&canvas).unwrap();
        assert!(
            header.0.lock().unwrap().colour.glass((240, 320), (0, 0)) == turned(&canvas, (quarters + 1) % 4),
            "ili9341 turned by {rotate}"
        );
    }
}

#[test]
fn options_fit_glass_that_is_built_another_way() {
    let header = TestHeader::new();
    header.0.lock().unwrap().colour = ColourPanel::ili9341();
    let mut display = display(&header, "st7789://spi1.2?dc=25&mirror=1&order=bgr&invert=0&mhz=62&mode=3");
    let canvas = pattern((240, 240));
    display.flush(&canvas).unwrap();
    let wires = header.0.lock().unwrap();
    assert!(wires.colour.glass((240, 240), (0, 0)) == turned(&canvas, 0));
    let settings = wires.spi.clone().unwrap();
    assert_eq!(settings, SpiSettings { bus: 1, chip_select: 2, clock_hz: 62_000_000, mode: MODE_3 });
}

#[test]
fn only_what_changed_goes_over_the_wire() {
    let header = TestHeader::new();
    let mut display = display(&header, "st7789://spi0.0?dc=25&reset=27");
    let mut canvas = pattern((240, 240));
    display.flush(&canvas).unwrap();
    let whole = header.0.lock().unwrap().bytes;
    assert!((115_200..115_300).contains(&whole), "{whole}");
    display.flush(&canvas).unwrap();
    assert_eq!(header.0.lock().unwrap().bytes, whole);
    canvas.fill_solid(&Rectangle::new(Point::new(10, 200), Size::new(50, 8)), Rgb565::MAGENTA).unwrap();
    canvas.fill_solid(&Rectangle::new(Point::new(239, 239), Size::new(1, 1)), Rgb565::MAGENTA).unwrap();
    display.flush(&canvas).unwrap();
    let wires = header.0.lock().unwrap();
    // Two windows of 11 bytes each, and their pixels.
    assert_eq!(wires.bytes - whole, 2 * 11 + 2 * (50 * 8 + 1));
    assert!(wires.colour.glass((240, 240), (0, 0)) == turned(&canvas, 0));
}

#[test]
fn a_failure_at_any_call_is_an_error_and_the_next_pictures_are_right() {
    let uri = "st7789://spi0.0?dc=25&reset=27&backlight=18&size=16x20";
    let first = pattern((16, 20));
    let mut second = first.clone();
    second.fill_solid(&Rectangle::new(Point::new(3, 4), Size::new(5, 6)), Rgb565::CYAN).unwrap();
    let header = TestHeader::new();
    let mut clean = display(&header, uri);
    clean.flush(&first).unwrap();
    clean.flush(&second).unwrap();
    let calls = header.0.lock().unwrap().calls;
    assert!(calls > 40, "{calls}");
    for k in 1..=calls {
        let header = TestHeader::new();
        header.0.lock().unwrap().fail_at = Some(k);
        let mut display = display(&header, uri);
        let mut errors = 0;
        for canvas in [&first, &second, &second] {
            if let Err(error) = display.flush(canvas) {
                errors += 1;
                assert!(error.to_string().contains("the wire broke"), "{error}");
            }
        }
        assert_eq!(errors, 1, "call {k}");
        let wires = header.0.lock().unwrap();
        assert!(wires.colour.glass((16, 20), (0, 0)) == turned(&second, 0), "call {k}");
        assert!(wires.lit, "call {k}");
    }
}

#[test]
fn a_panel_that_comes_back_is_reset_and_drawn_whole() {
    let header = TestHeader::new();
    let mut display = display(&header, "st7789://spi0.0?dc=25&reset=27&backlight=18");
    let canvas = pattern((240, 240));
    display.flush(&canvas).unwrap();
    header.0.lock().unwrap().unplugged = true;
    let mut other = canvas.clone();
    other.fill_solid(&Rectangle::new(Point::zero(), Size::new(1, 1)), Rgb565::WHITE).unwrap();
    for _ in 0..3 {
        display.flush(&other).unwrap_err();
    }
    {
        let mut wires = header.0.lock().unwrap();
        wires.unplugged = false;
        wires.colour.lose_power();
    }
    let resets = header.0.lock().unwrap().colour.resets;
    display.flush(&other).unwrap();
    let wires = header.0.lock().unwrap();
    assert_eq!(wires.colour.resets, resets + 1);
    assert!(wires.colour.glass((240, 240), (0, 0)) == turned(&other, 0));
}

#[test]
fn the_light_goes_on_with_the_first_picture_and_a_panel_without_reset_pin_is_reset_by_command() {
    let header = TestHeader::new();
    let mut display = display(&header, "st7789://spi0.0?dc=25&backlight=18");
    display.prepare().unwrap();
    {
        let wires = header.0.lock().unwrap();
        assert_eq!((wires.lit, wires.colour.resets), (false, 1));
    }
    display.flush(&pattern((240, 240))).unwrap();
    assert!(header.0.lock().unwrap().lit);
}

#[test]
fn lines_that_are_named_twice_are_refused() {
    let parsed = DisplayUri::parse("st7789://spi0.0?dc=25&reset=25").unwrap();
    let error = open(parsed, Arc::new(TestHeader::new()), |_| {}).err().unwrap();
    assert!(error.is_usage() && error.to_string().contains("`reset` is a line that is named twice"), "{error}");
}
