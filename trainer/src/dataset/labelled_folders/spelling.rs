//! How names are compared: case, `_`, `-` and runs of blanks do not count.

/// Shares of a name that may be edited for it still to be suggested: half of the longer name.
const EDITED_AT_MOST: (usize, usize) = (1, 2);

/// A name in the one way that all its spellings share: lower case, words with one blank between. "Ride-Bicycle" gives "ride bicycle".
pub(super) fn spelled(name: &str) -> String {
    let words = name.split(|c: char| c.is_whitespace() || c == '_' || c == '-').filter(|w| !w.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

fn in_alphabetical_order(name: &str) -> String {
    let mut words: Vec<&str> = name.split(' ').collect();
    words.sort_unstable();
    words.join(" ")
}

/// Edits between two [`spelled`] names; words in another order count as one edit more.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let reordered = 1 + strsim::osa_distance(&in_alphabetical_order(a), &in_alphabetical_order(b));
    strsim::osa_distance(a, b).min(reordered)
}

/// Those of the [`spelled`] names that are nearest to `name`, at most `count`, the nearest first, equally near ones in their order. Names
/// that have little in common with it are left out.
pub(super) fn nearest<'a>(name: &str, among: impl Iterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let (share, of) = EDITED_AT_MOST;
    let near = among.filter_map(|candidate| {
        let longest = name.chars().count().max(candidate.chars().count());
        let edits = distance(name, candidate);
        (of * edits <= share * longest).then_some((edits, candidate))
    });
    let mut near: Vec<_> = near.collect();
    near.sort_by_key(|n| n.0);
    near.into_iter().take(count).map(|n| n.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name() {
        for name in ["ride bicycle", "ride_bicycle", "Ride-Bicycle", "  RIDE \t_bicycle- "] {
            assert_eq!(spelled(name), "ride bicycle", "{name}");
        }
        assert_eq!(spelled("GEIGE_SPIELEN_ÜBEN"), "geige spielen üben");
        assert_eq!(spelled("_- "), "");
    }

    #[test]
    fn nearest_by_hand() {
        let names = ["hold cup", "ride bicycle", "ride horse", "wash bicycle", "fly kite"];
        let nearest = |name| nearest(name, names.into_iter(), 3);
        assert_eq!(distance("ride bicylce", "ride bicycle"), 1, "two letters in the wrong order are one edit");
        assert_eq!(distance("bicycle ride", "ride bicycle"), 1);
        assert_eq!(nearest("ride bicylce")[0], "ride bicycle");
        assert_eq!(nearest("bicycle riding")[0], "ride bicycle");
        assert_eq!(nearest("hold cups"), ["hold cup"]);
        assert!(nearest("miscellaneous").is_empty());
        assert!(nearest("").is_empty());
    }
}
