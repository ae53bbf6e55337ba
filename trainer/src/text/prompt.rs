//! Interactions as prompts: "a person riding a bicycle" (Weakly-HOI, section 3.2.1 and appendix G; C10 in the HICO-DET's verb forms).

use crate::dataset::v_coco::Role;

/// One-syllable verbs in consonant, vowel, consonant double their last letter ("cut" gives "cutting"); so do these longer ones, whose last
/// syllable is stressed.
const DOUBLED: [&str; 6] = ["control", "begin", "refer", "occur", "admit", "permit"];

/// The present participle of an English verb: "ride" gives "riding", "lie" "lying", "cut" "cutting", "load" "loading".
///
/// Spelling rules with a short list of longer verbs; a verb that is spelled "-ing" already stays as it is.
pub fn participle(verb: &str) -> String {
    let vowel = |c: char| "aeiou".contains(c);
    let letters: Vec<char> = verb.chars().collect();
    let from_end = |i: usize| letters.len().checked_sub(i).and_then(|at| letters.get(at)).copied();
    let (last, before, third) = (from_end(1), from_end(2), from_end(3));
    // "ring" and "sing" have no vowel before; "riding" and "waving" do.
    if verb.strip_suffix("ing").is_some_and(|stem| stem.chars().any(|c| vowel(c) || c == 'y')) {
        return verb.to_owned();
    }
    if let Some(stem) = verb.strip_suffix("ie") {
        return format!("{stem}ying");
    }
    if let Some(stem) = verb.strip_suffix('e')
        && letters.len() > 2
        && !before.is_some_and(|c| "eoy".contains(c))
    {
        return format!("{stem}ing");
    }
    // Groups of vowels: one group is one syllable; `u` after `q` is no vowel.
    let mut groups = 0;
    let mut inside = false;
    for (i, &c) in letters.iter().enumerate() {
        let is = (vowel(c) && !(c == 'u' && i > 0 && letters[i - 1] == 'q')) || (c == 'y' && i > 0);
        groups += usize::from(is && !inside);
        inside = is;
    }
    let closed = last.is_some_and(|c| !vowel(c) && !"wxy".contains(c))
        && before.is_some_and(vowel)
        && third.is_none_or(|c| !vowel(c) || (c == 'u' && from_end(4) == Some('q')));
    match last {
        Some(c) if closed && (groups == 1 || DOUBLED.contains(&verb)) => format!("{verb}{c}ing"),
        _ => format!("{verb}ing"),
    }
}

/// "a" or "an" by the first letter's sound: "an umbrella", "a unicycle".
fn article(noun: &str) -> &'static str {
    const LIKE_YOU: [&str; 4] = ["uni", "use", "uti", "eu"];
    const SILENT_H: [&str; 3] = ["hour", "honest", "heir"];
    let starts = |list: &[&str]| list.iter().any(|s| noun.starts_with(s));
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    if (vowel && !starts(&LIKE_YOU)) || starts(&SILENT_H) { "an" } else { "a" }
}

/// The sentence of an interaction: "a person riding a bicycle", "a person sitting on a dining table", "a person and a dog" for
/// `no_interaction`, "a person waving hands" where there is no object.
///
/// Names are those of the data sets; underscores count as blanks. The verb's first word is put into its participle, what follows is kept
/// ("text_on" gives "texting on").
pub fn prompt(verb: &str, object: Option<&str>) -> String {
    let words: Vec<&str> = verb.split(['_', ' ']).filter(|w| !w.is_empty()).collect();
    let noun = object.map(|o| o.split(['_', ' ']).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" "));
    let noun = noun.filter(|n| !n.is_empty()).map(|n| format!("{} {n}", article(&n)));
    let mut parts = vec!["a person".to_owned()];
    if words.starts_with(&["no", "interaction"]) {
        parts.extend(noun.map(|n| format!("and {n}")));
        return parts.join(" ");
    }
    if let [first, rest @ ..] = words.as_slice() {
        parts.push(participle(first));
        parts.extend(rest.iter().map(|w| (*w).to_owned()));
    }
    parts.extend(noun);
    parts.join(" ")
}

/// The sentence of an interaction of V-COCO, whose verbs have roles (Weakly-HOI, appendix G): "a person holding a cup" for an object that
/// something is done to, "a person cutting with knife" for what it is done with. The verb is `action` in the form that [`prompt`] gives it,
/// the instrument stands without an article as printed.
pub fn role_prompt(action: &str, role: Role, object: &str) -> String {
    match role {
        Role::Object => prompt(action, Some(object)),
        Role::Instrument => {
            let noun: Vec<&str> = object.split(['_', ' ']).filter(|w| !w.is_empty()).collect();
            format!("{} with {}", prompt(action, None), noun.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_of_v_coco() {
        assert_eq!(role_prompt("hold", Role::Object, "cup"), "a person holding a cup");
        assert_eq!(role_prompt("eat", Role::Object, "apple"), "a person eating an apple");
        assert_eq!(role_prompt("cut", Role::Instrument, "knife"), "a person cutting with knife");
        assert_eq!(
            role_prompt("talk_on_phone", Role::Instrument, "cell phone"),
            "a person talking on phone with cell phone"
        );
    }

    #[test]
    fn participles_by_hand() {
        for (verb, expected) in [
            ("ride", "riding"),
            ("lie", "lying"),
            ("tie", "tying"),
            ("cut", "cutting"),
            ("sit", "sitting"),
            ("stop", "stopping"),
            ("stab", "stabbing"),
            ("load", "loading"),
            ("row", "rowing"),
            ("fly", "flying"),
            ("open", "opening"),
            ("repair", "repairing"),
            ("control", "controlling"),
            ("text", "texting"),
            ("squeeze", "squeezing"),
            ("see", "seeing"),
            ("buy", "buying"),
            ("zip", "zipping"),
            ("ski", "skiing"),
            ("dye", "dyeing"),
            ("quit", "quitting"),
            ("riding", "riding"),
            ("swing", "swinging"),
            ("bring", "bringing"),
        ] {
            assert_eq!(participle(verb), expected, "{verb}");
        }
    }

    #[test]
    fn prompts_by_hand() {
        assert_eq!(prompt("ride", Some("bicycle")), "a person riding a bicycle");
        assert_eq!(prompt("text_on", Some("cell phone")), "a person texting on a cell phone");
        assert_eq!(prompt("sit_on", Some("dining_table")), "a person sitting on a dining table");
        assert_eq!(prompt("hold", Some("umbrella")), "a person holding an umbrella");
        assert_eq!(prompt("ride", Some("unicycle")), "a person riding a unicycle");
        assert_eq!(prompt("no_interaction", Some("airplane")), "a person and an airplane");
        assert_eq!(prompt("waving hands", None), "a person waving hands");
        assert_eq!(prompt("play_violin", None), "a person playing violin");
    }
}
