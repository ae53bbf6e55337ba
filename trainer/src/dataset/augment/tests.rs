//! Boxes and sizes by hand.

use super::*;

fn b(x1: f32, y1: f32, x2: f32, y2: f32) -> BBox {
    BBox::new(x1, y1, x2, y2)
}

#[test]
fn sizes_by_hand() {
    let resize = Resize::ShortSide { short: 800, long: 1333 };
    let cases = [
        ((640, 480), (1066, 800)), // 800 * 640 / 480 = 1066.67
        ((480, 640), (800, 1066)),
        ((500, 500), (800, 800)),
        ((2000, 500), (1332, 333)), // 1333 / 4 = 333.25 -> 333; 333 * 4 = 1332
        ((1, 5000), (1, 1333)),     // the short side never goes below 1, the long one never above its limit
        ((1600, 1200), (1066, 800)),
    ];
    for ((w, h), (want_w, want_h)) in cases {
        assert_eq!(resize.input_size(Size::new(w, h)), Size::new(want_w, want_h), "{w}x{h}");
    }
    assert_eq!(Resize::Exact(Size::new(96, 64)).input_size(Size::new(7, 900)), Size::new(96, 64));
}

#[test]
fn boxes_mirrored_and_cut_by_hand() {
    assert_eq!(mirrored(&b(10., 5., 30., 25.), 100), b(70., 5., 90., 25.));
    assert_eq!(mirrored(&b(0., 0., 100., 50.), 100), b(0., 0., 100., 50.));
    let region = Region { x: 20, y: 10, size: Size::new(50, 30) };
    let cases = [
        (b(30., 15., 40., 20.), b(10., 5., 20., 10.)), // inside
        (b(0., 0., 100., 100.), b(0., 0., 50., 30.)),  // all around
        (b(60., 5., 90., 25.), b(40., 0., 50., 15.)),  // over the upper right corner
        (b(70., 10., 90., 20.), b(50., 0., 50., 10.)), // touches the right edge: no area
        (b(0., 0., 20., 10.), b(0., 0., 0., 0.)),      // touches the corner: no area
    ];
    for (given, want) in cases {
        assert_eq!(region.cut(&given), want, "{given:?}");
    }
}

#[test]
fn drawn_sizes_and_regions_stay_in_their_ranges() {
    use rand::SeedableRng;
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..400 {
        let Resize::ShortSide { short, long: 1333 } = Resize::ShortSide { short: 800, long: 1333 }.drawn(&mut rng)
        else {
            panic!("another kind of resize")
        };
        seen.insert(short);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), (480..=800).step_by(32).collect::<Vec<_>>());

    for picture in [Size::new(500, 400), Size::new(160, 160), Size::new(1, 1), Size::new(3, 4000)] {
        let short = f64::from(picture.width.min(picture.height));
        for _ in 0..100 {
            let Region { x, y, size } = Region::draw(picture, &mut rng);
            assert!(x + size.width <= picture.width && y + size.height <= picture.height);
            for side in [size.width, size.height] {
                // 384 of a short side of 600 is the smallest part, 600 of 400 the largest.
                assert!(
                    f64::from(side) >= (short * 0.64 - 0.5).max(1.0) && f64::from(side) <= short * 1.5 + 0.5,
                    "{side}"
                );
            }
        }
    }
}
