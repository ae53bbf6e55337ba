//! Which line belongs to which picture: by the longest tail that both paths share.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path};

use super::{PictureProposals, ProposalError, ProposalFile};

/// Names of folders and file, from the left; `.` and the root are no names.
pub(super) fn components(path: &Path) -> Vec<String> {
    let names = path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        Component::ParentDir => Some("..".to_owned()),
        _ => None,
    });
    names.collect()
}

/// How many names two paths share, counted from the file.
fn shared(a: &[String], b: &[String]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

impl ProposalFile {
    /// The line of each picture, `None` where the file has none.
    ///
    /// A picture and a line belong together when they share the file name and more of the path's end than either does with any other that is
    /// free: a line `ride bicycle/a.jpg` is that of `photos/ride bicycle/a.jpg`, and `photos/hold cup/a.jpg` does not get it, although it
    /// would were it the only picture.
    ///
    /// # Errors
    /// [`ProposalError::TwoLines`], [`ProposalError::TwoPictures`] where several fit equally well; both are named.
    pub fn find_all<P: AsRef<Path>>(&self, pictures: &[P]) -> Result<Vec<Option<&PictureProposals>>, ProposalError> {
        let mut found = vec![None; pictures.len()];
        let wanted: Vec<Vec<String>> = pictures.iter().map(|p| components(p.as_ref())).collect();
        let lines: Vec<Vec<String>> = self.pictures.iter().map(|p| components(Path::new(&p.image))).collect();
        let mut lines_of: HashMap<&str, Vec<usize>> = HashMap::new();
        for (line, names) in lines.iter().enumerate() {
            lines_of.entry(names.last().map_or("", String::as_str)).or_default().push(line);
        }
        let mut wanted_of: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (picture, names) in wanted.iter().enumerate() {
            wanted_of.entry(names.last().map_or("", String::as_str)).or_default().push(picture);
        }
        for (name, asking) in wanted_of {
            let mut pairs: Vec<(usize, usize, usize)> = Vec::new();
            for &line in lines_of.get(name).into_iter().flatten() {
                pairs.extend(asking.iter().map(|&p| (shared(&wanted[p], &lines[line]), p, line)));
            }
            pairs.sort_unstable_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
            let mut taken = HashMap::new();
            for group in pairs.chunk_by(|a, b| a.0 == b.0) {
                let free: Vec<(usize, usize)> = group
                    .iter()
                    .filter(|(_, picture, line)| found[*picture].is_none() && !taken.contains_key(line))
                    .map(|&(_, picture, line)| (picture, line))
                    .collect();
                for (picture, line) in free {
                    let path = || pictures[picture].as_ref().to_owned();
                    if let Some(first) = found[picture] {
                        return Err(self.two_lines(path(), first, line));
                    }
                    if let Some(&first) = taken.get(&line) {
                        let first: &P = &pictures[first];
                        return Err(ProposalError::TwoPictures {
                            path: self.path.clone(),
                            line: self.pictures[line].line,
                            image: self.pictures[line].image.clone(),
                            first: first.as_ref().to_owned(),
                            second: path(),
                        });
                    }
                    found[picture] = Some(line);
                    taken.insert(line, picture);
                }
            }
        }
        Ok(found.into_iter().map(|line: Option<usize>| line.map(|l| &self.pictures[l])).collect())
    }

    /// The line of one picture, as if it were the only one: [`find_all`](Self::find_all) with several is stricter.
    ///
    /// # Errors
    /// [`ProposalError::TwoLines`] where two lines fit equally well.
    pub fn find(&self, picture: &Path) -> Result<Option<&PictureProposals>, ProposalError> {
        Ok(self.find_all(&[picture])?.into_iter().next().flatten())
    }

    fn two_lines(&self, picture: std::path::PathBuf, first: usize, second: usize) -> ProposalError {
        let (first, second) = (&self.pictures[first], &self.pictures[second]);
        ProposalError::TwoLines {
            path: self.path.clone(),
            picture,
            first: first.image.clone(),
            first_line: first.line,
            second: second.image.clone(),
            second_line: second.line,
        }
    }
}
