use super::text::Face;
use super::*;
use crate::display::Canvas;
use embedded_graphics::mono_font::MonoFont;
use embedded_graphics::mono_font::iso_8859_1::{FONT_5X8, FONT_6X10, FONT_7X13_BOLD, FONT_9X15_BOLD};

fn triplet(human: [f32; 4], object: [f32; 4], verb: &str, name: &str, score: f32) -> SceneTriplet {
    SceneTriplet {
        human: BBox::from(human),
        object: Some(BBox::from(object)),
        verb: verb.into(),
        object_name: Some(name.into()),
        score,
    }
}

fn scene<'a>(picture: &'a RgbImage, triplets: &'a [SceneTriplet], people: &'a [BBox]) -> Scene<'a> {
    Scene {
        state: State::Running,
        picture: Some(picture),
        people,
        triplets,
        frame: Some(12),
        frame_ms: Some(34.4),
        frames_per_second: Some(28.94),
        temperature: Some(51.6),
        dropped: 0,
    }
}

fn drawn(width: u16, height: u16, scene: &Scene<'_>) -> Canvas {
    let mut canvas = Canvas::new(width, height);
    // A colour that the screen never uses: what keeps it was not painted.
    canvas.clear(Rgb565::MAGENTA).unwrap();
    draw(&mut canvas, scene).unwrap();
    assert!(canvas.pixels().iter().all(|&c| c != Rgb565::MAGENTA), "unpainted pixels at {width}x{height}");
    canvas
}

/// One letter for each cell of 10 x 10 pixels: `h`, `o`: a human's or object's colour in it; `L`: white; `e`: an error's;
/// `m`: only margin or black; `p`: the grey picture.
fn pattern(canvas: &Canvas, area: Rectangle) -> Vec<String> {
    let cell = |x: i32, y: i32| {
        let cell = Rectangle::new(Point::new(x, y), Size::new(10, 10));
        let seen = |colour: Rgb565| cell.points().any(|p| canvas.pixel(p) == Some(colour));
        match () {
            () if seen(HUMAN) => 'h',
            () if seen(OBJECT) => 'o',
            () if seen(Rgb565::WHITE) => 'L',
            () if seen(BAD) => 'e',
            () if seen(GREY) => 'p',
            () => 'm',
        }
    };
    let corner = area.bottom_right().unwrap();
    (area.top_left.y..corner.y)
        .step_by(10)
        .map(|y| (area.top_left.x..corner.x).step_by(10).map(|x| cell(x, y)).collect())
        .collect()
}

const GREY: Rgb565 = Rgb565::new(12, 24, 12);
const VIEW: Rectangle = Rectangle::new(Point::new(0, 14), Size::new(240, 180));

fn grey(width: u32, height: u32) -> RgbImage {
    RgbImage::from_pixel(width, height, image::Rgb([98, 97, 98]))
}

#[test]
fn boxes_and_link_lie_where_the_picture_says() {
    let picture = grey(480, 360);
    // On the screen: human x 20..80, y 14+20..14+140; object x 160..220, y 14+80..14+140.
    let triplets = [triplet([40., 40., 160., 280.], [320., 160., 440., 280.], "hold", "cup", 0.6)];
    let canvas = drawn(240, 240, &scene(&picture, &triplets, &[]));
    assert_eq!(
        pattern(&canvas, VIEW),
        [
            "pppppppppppppppppppppppp",
            "pppppppppppppppppppppppp",
            "pphhhhhhpppppppppppppppp",
            "pphpppphpppppppppppppppp",
            "pphpppphpppppppppppppppp",
            "pphpppphpppppppppppppppp",
            "pphpppphpppppppppppppppp",
            "pphphhphpppppppppppppppp",
            "pphphhLhLLppppppoooooopp",
            "pphpppphpLLLLLLpoppppopp",
            "pphpppphppppppLLoLoopopp",
            "pphpppphppppppppopoopopp",
            "pphpppphppppppppoppppopp",
            "pphhhhhhppppppppoooooopp",
            "pppppppppppppppppppppppp",
            "pppppppppppppppppppppppp",
            "pppppppppppppppppppppppp",
            "pppppppppppppppppppppppp",
        ]
    );
}

#[test]
fn a_portrait_picture_keeps_its_shape_between_margins() {
    let picture = grey(90, 180);
    let canvas = drawn(240, 240, &scene(&picture, &[], &[BBox::new(0., 0., 90., 180.)]));
    let rows = pattern(&canvas, VIEW);
    assert_eq!(rows[0], "mmmmmmmhhhhhhhhhhmmmmmmm");
    assert_eq!(rows[9], "mmmmmmmhpppppppphmmmmmmm");
    assert_eq!(rows[17], "mmmmmmmhhhhhhhhhhmmmmmmm");
}

/// The text of one row of cells, read back by comparing each cell with every printable letter of the font.
fn read(canvas: &Canvas, font: &'static MonoFont<'static>, at: Point, columns: usize) -> String {
    let Size { width, height } = font.character_size;
    let ink = |canvas: &Canvas, corner: Point| -> Vec<bool> {
        let paper = [BAR, Rgb565::BLACK];
        let cell = Rectangle::new(corner, Size::new(width, height));
        cell.points().map(|p| canvas.pixel(p).is_some_and(|c| !paper.contains(&c))).collect()
    };
    (0..columns)
        .map(|i| {
            let seen = ink(canvas, at + Point::new((i as u32 * width) as i32, 0));
            (' '..='~')
                .chain(['\u{2026}', '\u{b0}'])
                .find(|c| {
                    let mut one = Canvas::new(width as u16 + 2, height as u16 + 2);
                    Face::new(font, 1).line(&mut one, Point::zero(), Rgb565::WHITE, &c.to_string()).unwrap();
                    ink(&one, Point::zero()) == seen
                })
                .unwrap_or('\u{fffd}')
        })
        .collect()
}

fn triplet_line(canvas: &Canvas, i: i32) -> String {
    let text = read(canvas, &FONT_7X13_BOLD, Point::new(4, 196 + 15 * i), 28);
    format!("{}|{}", text.trim_end(), read(canvas, &FONT_7X13_BOLD, Point::new(208, 196 + 15 * i), 4))
}

#[test]
fn texts_can_be_read_back() {
    let picture = grey(480, 360);
    let at = ([0., 0., 9., 9.], [5., 5., 9., 9.]);
    let mut triplets = vec![
        triplet(at.0, at.1, "ride", "bicycle", 0.934),
        triplet(at.0, at.1, "have a long conversation about", "a refrigerator", 0.5),
        SceneTriplet { object: None, object_name: None, ..triplet(at.0, at.1, "wave", "", 0.051) },
        triplet(at.0, at.1, "never", "shown", 0.01),
    ];
    let mut scene = scene(&picture, &triplets, &[]);
    scene.dropped = 7;
    let canvas = drawn(240, 240, &scene);
    assert_eq!(triplet_line(&canvas, 0), "1 ride bicycle|0.93");
    assert_eq!(triplet_line(&canvas, 1), "2 have a long\u{2026} a refrigerat\u{2026}|0.50");
    assert_eq!(triplet_line(&canvas, 2), "3 wave|0.05");
    assert_eq!(read(&canvas, &FONT_6X10, Point::new(14, 2), 30).trim_end(), "ok  28.9 fps  52\u{b0}C  34 ms  #12");
    assert_eq!(read(&canvas, &FONT_6X10, Point::new(240 - 6 * 6 - 2, 2), 6), "drop 7");
    triplets.truncate(1);
    let canvas = drawn(240, 240, &self::scene(&picture, &triplets, &[]));
    assert_eq!(triplet_line(&canvas, 1), "|    ");
}

#[test]
fn nobody_and_nothing_done_are_said() {
    let picture = grey(480, 360);
    let said = |people: &[BBox]| {
        read(&drawn(240, 240, &scene(&picture, &[], people)), &FONT_7X13_BOLD, Point::new(4, 196), 32)
    };
    let person = BBox::new(0., 0., 100., 100.);
    assert_eq!(said(&[]).trim_end(), "nobody here");
    assert_eq!(said(&[person]).trim_end(), "1 person, doing nothing I know");
    assert_eq!(said(&[person, person]).trim_end(), "2 people, doing nothing I know");
}

#[test]
fn states_and_errors_are_words_on_the_screen() {
    let cases = [
        (State::Starting("loading the model".into()), "starting", "Starting", "loading the model"),
        (
            State::SourceError("kitchen.jpg: the file is empty".into()),
            "source error",
            "No picture",
            "kitchen.jpg: the file is empty",
        ),
        (State::ModelError("manifest.json: no key".into()), "model error", "Model error", "manifest.json: no key"),
        (State::DeviceError("/dev/serial0: busy".into()), "device error", "Device error", "/dev/serial0: busy"),
        (State::NoCamera("/dev/video0: gone".into()), "no camera", "No camera", "/dev/video0: gone"),
        (State::Update("nano-7, checking".into()), "update", "Update", "nano-7, checking"),
    ];
    for (state, word, title, message) in cases {
        let canvas = drawn(240, 240, &Scene::of_state(state));
        assert_eq!(read(&canvas, &FONT_6X10, Point::new(14, 2), 12).trim_end(), word);
        assert_eq!(read(&canvas, &FONT_9X15_BOLD, Point::new(8, 26), 12).trim_end(), title);
        assert_eq!(read(&canvas, &FONT_7X13_BOLD, Point::new(8, 53), 32).trim_end(), message);
    }
}

#[test]
fn triplets_of_one_pair_share_boxes_and_others_are_numbered() {
    let picture = grey(480, 360);
    let (human, cup, dog) = ([40., 40., 160., 280.], [320., 160., 440., 280.], [320., 20., 440., 100.]);
    let one_pair = [triplet(human, cup, "hold", "cup", 0.9), triplet(human, cup, "sip", "cup", 0.5)];
    let best = drawn(240, 240, &scene(&picture, &one_pair[..1], &[]));
    let both = drawn(240, 240, &scene(&picture, &one_pair, &[]));
    let view = |canvas: &Canvas| VIEW.points().map(|p| canvas.pixel(p)).collect::<Vec<_>>();
    assert_eq!(view(&best), view(&both));
    let two_pairs = [one_pair[0].clone(), triplet(human, dog, "pet", "dog", 0.5)];
    let numbered = drawn(240, 240, &scene(&picture, &two_pairs, &[]));
    // Three tenths of the link from human (49, 93) to dog (189, 43) are (91, 78): a badge of 8 x 10 pixels around it.
    assert_eq!(read(&numbered, &FONT_5X8, Point::new(90, 75), 1), "2");
}

#[test]
fn nothing_panics_at_any_size_or_with_any_box() {
    let wild = [
        triplet([f32::NAN; 4], [f32::MAX; 4], "", "", f32::NAN),
        triplet([f32::MIN, f32::MIN, f32::MAX, f32::MAX], [f32::NEG_INFINITY, 0., f32::INFINITY, 1.], "v", "o", 1e30),
        triplet([5., 5., 1., 1.], [0.; 4], &"very ".repeat(99), &"long".repeat(99), -1.),
    ];
    let people = [BBox::new(-1e30, -1e30, 1e30, 1e30), BBox::new(f32::NAN, 0., 1., 1.)];
    let pictures = [grey(1, 1), grey(3000, 1), grey(1, 3000), RgbImage::new(0, 0), grey(640, 480)];
    for (width, height) in [
        (240, 240),
        (320, 240),
        (128, 64),
        (128, 32),
        (1, 1),
        (0, 0),
        (7, 300),
        (300, 7),
        (160, 160),
        (120, 120),
        (40, 40),
        (800, 480),
        (1280, 720),
    ] {
        for picture in &pictures {
            for shown in 0..=wild.len() {
                let mut scene = scene(picture, &wild[..shown], &people);
                scene.frame = Some(u64::MAX);
                scene.frame_ms = Some(f64::INFINITY);
                scene.frames_per_second = Some(f32::NAN);
                scene.temperature = Some(f32::NEG_INFINITY);
                scene.dropped = u64::MAX;
                drawn(width, height, &scene);
            }
        }
        for state in [
            State::Starting(String::new()),
            State::SourceError("x".repeat(4000)),
            State::ModelError("a b ".repeat(900)),
        ] {
            drawn(width, height, &Scene::of_state(state));
        }
    }
}

#[test]
fn numbers_that_do_not_fit_are_left_out_the_last_first() {
    let picture = grey(480, 360);
    let scene = scene(&picture, &[], &[]);
    let cases = [
        (99, "ok  28.9 fps  52\u{b0}C  34 ms  #12"),
        (29, "ok  28.9 fps  52\u{b0}C  34 ms"),
        (19, "ok  28.9 fps  52\u{b0}C"),
        (17, "ok  28.9 fps"),
        (5, "ok"),
        (1, "\u{2026}"),
        (0, ""),
    ];
    for (columns, said) in cases {
        assert_eq!(scene.status(columns, "  "), said, "{columns}");
    }
    let fast = Scene { frames_per_second: Some(123.4), temperature: None, ..scene };
    assert_eq!(fast.status(20, " "), "ok 123 fps 34 ms #12");
}

#[test]
fn screens_without_room_for_a_picture_are_black_and_white() {
    let picture = grey(480, 360);
    let triplets = [triplet([0., 0., 9., 9.], [5., 5., 9., 9.], "ride", "bicycle", 0.934)];
    for (width, height) in [(128, 64), (128, 32), (119, 400), (400, 119)] {
        for state in [State::Running, State::NoCamera("/dev/video0".into())] {
            let canvas = drawn(width, height, &Scene { state, ..scene(&picture, &triplets, &[]) });
            let inks = canvas.pixels().iter().all(|c| [Rgb565::WHITE, Rgb565::BLACK].contains(c));
            assert!(inks, "{width}x{height}");
        }
    }
}

#[test]
fn wide_screens_say_verb_and_object_on_two_lines_beside_the_picture() {
    let picture = grey(480, 360);
    let triplets = [
        triplet([0., 0., 9., 9.], [5., 5., 9., 9.], "ride", "bicycle", 0.934),
        triplet([0., 0., 9., 9.], [5., 5., 9., 9.], "talk on", "cell phone", 0.5),
    ];
    let canvas = drawn(800, 480, &scene(&picture, &triplets, &[]));
    use embedded_graphics::mono_font::iso_8859_1::FONT_10X20;
    let said = |y| read(&canvas, &FONT_10X20, Point::new(552, y), 20).trim_end().to_owned();
    assert_eq!([said(21), said(43), said(71), said(93)], ["1 ride", "  bicycle", "2 talk on", "  cell phone"]);
    assert_eq!(read(&canvas, &FONT_10X20, Point::new(756, 21), 4), "0.93");
}
