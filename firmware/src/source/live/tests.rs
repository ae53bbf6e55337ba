use std::collections::VecDeque;

use image::RgbImage;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// What the next run of a [`Scripted`] camera does, step by step.
enum Act {
    /// Gives this many pictures, one a millisecond.
    Pictures(u32),
    /// Is silent for ever.
    Stall,
    Die(&'static str),
    End,
}

/// A camera whose runs are written down; after the last one it cannot be started.
struct Scripted {
    runs: VecDeque<Vec<Act>>,
    /// Ways that are tried after a failure without a picture.
    ways: u32,
}

struct Run(VecDeque<Act>);

impl Camera for Scripted {
    fn start(&mut self) -> Result<Box<dyn Stream>, String> {
        match self.runs.pop_front() {
            Some(acts) => Ok(Box::new(Run(acts.into()))),
            None => Err("unplugged".to_owned()),
        }
    }

    fn remedy(&self, why: &str) -> Option<&'static str> {
        (why == "unplugged").then_some("Plug it in")
    }

    fn try_another_way(&mut self) -> bool {
        self.ways = self.ways.saturating_sub(1);
        self.ways > 0
    }

    fn at_end(&mut self) -> AtEnd {
        if self.runs.is_empty() { AtEnd::Over } else { AtEnd::Outage }
    }
}

impl Stream for Run {
    fn read(&mut self, deadline: Instant) -> Step {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.0.front_mut() {
            Some(Act::Pictures(0)) => {
                self.0.pop_front();
                self.read(deadline)
            }
            Some(Act::Pictures(count)) => {
                *count -= 1;
                thread::sleep(MS);
                Step::Picture(Picture::Pixels(RgbImage::new(1, *count + 1)))
            }
            Some(Act::Die(why)) => Step::Broken((*why).to_owned()),
            Some(Act::End) => Step::Ended,
            Some(Act::Stall) | None => {
                thread::sleep(left);
                Step::Nothing
            }
        }
    }

    fn last_words(&self) -> Option<String> {
        Some("good bye".to_owned())
    }
}

fn live(runs: Vec<Vec<Act>>, ways: u32) -> Live {
    let backoff = Backoff { first: 5 * MS, most: 20 * MS, reset_after: Duration::from_secs(10) };
    let patience = Patience { start: 200 * MS, stall: 100 * MS, backoff };
    Live::start(Box::new(Scripted { runs: runs.into(), ways }), patience).unwrap()
}

/// The next thing that is not [`Taking::Waiting`].
fn next(live: &Live) -> Taking {
    live.take(Duration::from_secs(10))
}

#[test]
fn the_newest_picture_is_kept_and_older_ones_are_counted() {
    let live = live(vec![vec![Act::Pictures(40), Act::Stall]], 0);
    while live.counts(0).read < 40 {
        thread::sleep(MS);
    }
    // The last picture of the run is one pixel high.
    assert!(matches!(next(&live), Taking::Picture(Picture::Pixels(pixels)) if pixels.height() == 1));
    assert!(matches!(live.take(MS), Taking::Waiting));
    let expected = FeedCounts { frames: 1, read: 40, dropped: 39, restarts: 0 };
    assert_eq!(live.counts(1), expected);
}

#[test]
fn an_outage_is_said_once_after_the_picture_that_came_before_it() {
    let live = live(
        vec![vec![Act::Pictures(1), Act::Die("no power")], vec![Act::Die("still none")], vec![Act::Pictures(1)]],
        0,
    );
    while live.counts(0).restarts < 1 {
        thread::sleep(MS);
    }
    assert!(matches!(next(&live), Taking::Picture(_)));
    assert!(matches!(next(&live), Taking::Down(why) if why == "no power"));
    assert!(matches!(next(&live), Taking::Picture(_)));
    assert_eq!(live.down(), None);
    assert!(matches!(next(&live), Taking::Down(why) if why == "no frame for 0.1 s; good bye"));
    assert!(live.down().is_some());
}

#[test]
fn an_outage_that_is_over_is_said_before_the_picture_that_ended_it() {
    let live = live(vec![vec![Act::Pictures(3), Act::Die("no power")], vec![Act::Pictures(1), Act::Stall]], 0);
    while live.counts(0).read < 4 {
        thread::sleep(MS);
    }
    assert!(matches!(next(&live), Taking::Down(why) if why == "no power"));
    assert!(matches!(next(&live), Taking::Picture(_)));
    assert_eq!(live.counts(1), FeedCounts { frames: 1, read: 4, dropped: 3, restarts: 1 });
}

#[test]
fn a_stall_before_the_first_picture_has_a_longer_time_and_other_words() {
    let began = Instant::now();
    let live = live(vec![vec![Act::Stall]], 0);
    assert!(matches!(next(&live), Taking::Down(why) if why == "no first frame for 0.2 s; good bye"));
    assert!(began.elapsed() >= 200 * MS);
}

#[test]
fn another_way_is_tried_at_once_and_in_silence() {
    let live = live(vec![vec![Act::Die("no JPEG")], vec![Act::Pictures(1), Act::Stall]], 2);
    assert!(matches!(next(&live), Taking::Picture(_)));
    assert_eq!(live.counts(1).restarts, 0);
}

#[test]
fn a_camera_that_cannot_be_started_gives_its_remedy_and_is_tried_again() {
    let live = live(vec![], 0);
    assert!(matches!(next(&live), Taking::Down(why) if why == "unplugged. Plug it in"));
    while live.counts(0).restarts < 3 {
        thread::sleep(MS);
    }
    assert!(matches!(live.take(MS), Taking::Waiting), "an outage is said once");
}

#[test]
fn an_end_is_an_outage_or_the_end_as_the_camera_says() {
    let live = live(vec![vec![Act::Pictures(1), Act::End], vec![Act::Pictures(1), Act::End]], 0);
    assert!(matches!(next(&live), Taking::Picture(_)));
    assert!(matches!(next(&live), Taking::Down(why) if why == "it ended; good bye"));
    assert!(matches!(next(&live), Taking::Picture(_)));
    assert!(matches!(next(&live), Taking::Ended));
    assert!(matches!(next(&live), Taking::Ended));
}

#[test]
fn a_feed_that_is_let_go_stops_its_thread_wherever_it_is() {
    let scripts = [vec![vec![Act::Stall]], vec![], vec![vec![Act::Pictures(1_000_000)]]];
    for runs in scripts {
        let live = live(runs, 0);
        let _ = live.take(20 * MS);
        let (shared, began) = (Arc::clone(&live.shared), Instant::now());
        drop(live);
        assert!(shared.lock().finished && began.elapsed() < STOP_WAIT);
    }
}
