use super::super::Display;
use super::super::test_panels::{OledPanel, TestHeader};
use super::*;
use std::time::Duration;

fn display(header: &TestHeader, uri: &str) -> Recovering {
    open(DisplayUri::parse(uri).unwrap(), Arc::new(header.clone())).unwrap().with_pause(Duration::ZERO)
}

/// A canvas of black and white without any symmetry.
fn pattern() -> Canvas {
    let mut canvas = Canvas::new(128, 64);
    let area = canvas.bounding_box();
    let lit = |p: Point| (p.x * p.x + 3 * p.y) % 7 < 3 && p.x + p.y > 20;
    let colours: Vec<Rgb565> = area.points().map(|p| if lit(p) { Rgb565::WHITE } else { Rgb565::BLACK }).collect();
    canvas.fill_contiguous(&area, colours).unwrap();
    canvas
}

fn rows(canvas: &Canvas) -> Vec<String> {
    canvas.rows(0, 64).map(|row| row.iter().map(|&c| if c == Rgb565::WHITE { '#' } else { '.' }).collect()).collect()
}

#[test]
fn the_glass_shows_the_canvas_upright_and_upside_down() {
    let canvas = pattern();
    let header = TestHeader::new();
    let mut upright = display(&header, "ssd1306://i2c-1");
    assert_eq!(upright.size(), (128, 64));
    upright.flush(&canvas).unwrap();
    assert_eq!(header.0.lock().unwrap().oled.glass().unwrap(), rows(&canvas));

    let header = TestHeader::new();
    header.0.lock().unwrap().address = 0x3d;
    let mut turned = display(&header, "ssd1306://i2c-1?address=0x3d&rotate=180&contrast=9");
    turned.flush(&canvas).unwrap();
    let mut upside_down: Vec<String> = rows(&canvas).iter().map(|row| row.chars().rev().collect()).collect();
    upside_down.reverse();
    let wires = header.0.lock().unwrap();
    assert_eq!(wires.oled.glass().unwrap(), upside_down);
    assert_eq!(wires.oled.contrast, 9);
}

#[test]
fn only_the_pages_that_changed_go_over_the_wire() {
    let header = TestHeader::new();
    let mut display = display(&header, "ssd1306://i2c-1");
    let mut canvas = pattern();
    display.flush(&canvas).unwrap();
    let whole = header.0.lock().unwrap().bytes;
    assert!((1024..1150).contains(&whole), "{whole}");
    display.flush(&canvas).unwrap();
    assert_eq!(header.0.lock().unwrap().bytes, whole);
    canvas.fill_solid(&Rectangle::new(Point::new(100, 17), Size::new(10, 5)), Rgb565::WHITE).unwrap();
    display.flush(&canvas).unwrap();
    let wires = header.0.lock().unwrap();
    let sent = wires.bytes - whole;
    assert!((10..40).contains(&sent), "{sent}");
    assert_eq!(wires.oled.glass().unwrap(), rows(&canvas));
}

#[test]
fn a_failure_at_any_call_is_an_error_and_the_next_pictures_are_right() {
    let first = pattern();
    let mut second = first.clone();
    second.fill_solid(&Rectangle::new(Point::new(30, 20), Size::new(50, 30)), Rgb565::WHITE).unwrap();
    let header = TestHeader::new();
    let mut clean = display(&header, "ssd1306://i2c-1");
    clean.flush(&first).unwrap();
    clean.flush(&second).unwrap();
    let calls = header.0.lock().unwrap().calls;
    assert!(calls > 30, "{calls}");
    for k in 1..=calls {
        let header = TestHeader::new();
        header.0.lock().unwrap().fail_at = Some(k);
        let mut display = display(&header, "ssd1306://i2c-1");
        let mut errors = 0;
        for canvas in [&first, &second, &second] {
            if let Err(error) = display.flush(canvas) {
                errors += 1;
                assert!(error.to_string().contains("the wire broke"), "{error}");
            }
        }
        assert_eq!(errors, 1, "call {k}");
        assert_eq!(header.0.lock().unwrap().oled.glass().unwrap(), rows(&second), "call {k}");
    }
}

#[test]
fn a_display_at_the_other_address_is_said_and_found_when_it_comes() {
    let header = TestHeader::new();
    header.0.lock().unwrap().address = 0x3d;
    let mut display = display(&header, "ssd1306://i2c-1");
    let error = display.flush(&pattern()).unwrap_err().to_string();
    assert!(error.contains("nothing answers at this address (0x3c)"), "{error}");
    assert!(error.contains("address=0x3d"), "{error}");
    {
        let mut wires = header.0.lock().unwrap();
        wires.address = 0x3c;
        wires.oled = OledPanel::default();
    }
    display.flush(&pattern()).unwrap();
    assert_eq!(header.0.lock().unwrap().oled.glass().unwrap(), rows(&pattern()));
}

#[test]
fn colours_become_bits_by_their_brightness() {
    for (colour, lit) in [
        (Rgb565::WHITE, true),
        (Rgb565::BLACK, false),
        (Rgb565::YELLOW, true),
        (Rgb565::GREEN, true),
        (Rgb565::RED, false),
        (Rgb565::BLUE, false),
    ] {
        assert_eq!(is_lit(colour), lit, "{colour:?}");
    }
}
