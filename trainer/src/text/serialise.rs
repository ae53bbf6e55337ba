//! Interactions as text (RmLR, section 3.3).

use std::collections::HashMap;

/// "human \<verb\> \<object\>": names as the data sets have them, underscores turned into blanks (`sit_on` and `dining_table` give
/// "human sit on dining table"). A verb without object leaves it out.
pub fn sub_sentence(verb: &str, object: &str) -> String {
    let words = [verb, object].into_iter().flat_map(|name| name.split(|c: char| c == '_' || c.is_whitespace()));
    std::iter::once("human").chain(words.filter(|word| !word.is_empty())).collect::<Vec<_>>().join(" ")
}

/// The sub-sentences of an image, each once, in the order of their first place; and of each given one its place among these.
pub(super) fn distinct(sub_sentences: &[String]) -> (Vec<&str>, Vec<usize>) {
    let mut places = HashMap::new();
    let mut once = Vec::new();
    let rows = sub_sentences
        .iter()
        .map(|text| {
            *places.entry(text.as_str()).or_insert_with(|| {
                once.push(text.as_str());
                once.len() - 1
            })
        })
        .collect();
    (once, rows)
}
