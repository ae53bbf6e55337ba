//! Which board this machine is, by what its file system shows.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use super::{Board, BoardError, Host, Jetson, Linux, RaspberryPi};

/// Which board to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BoardChoice {
    /// What probing finds.
    #[default]
    Auto,
    /// [`Host`].
    Host,
    /// [`RaspberryPi`].
    RaspberryPi,
    /// [`Jetson`].
    Jetson,
    /// [`Linux`].
    Linux,
}

impl BoardChoice {
    /// The names that [`FromStr`] takes.
    pub const NAMES: [&str; 5] = ["auto", "raspberry_pi", "jetson", "linux", "host"];
}

impl FromStr for BoardChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "host" => Ok(Self::Host),
            "raspberry_pi" => Ok(Self::RaspberryPi),
            "jetson" => Ok(Self::Jetson),
            "linux" => Ok(Self::Linux),
            _ => Err("auto, raspberry_pi, jetson, linux or host is needed".to_owned()),
        }
    }
}

/// The board that `choice` names.
///
/// # Errors
/// [`BoardError::NotThisBoard`] when it names a board that this machine is not.
pub fn select(choice: BoardChoice) -> Result<Box<dyn Board>, BoardError> {
    select_under(choice, Path::new("/"))
}

/// As [`select`], with the file system's beginning at `root`.
fn select_under(choice: BoardChoice, root: &Path) -> Result<Box<dyn Board>, BoardError> {
    match choice {
        BoardChoice::Host => Ok(Box::new(Host)),
        BoardChoice::RaspberryPi => Ok(Box::new(RaspberryPi::probe()?)),
        BoardChoice::Jetson => Ok(Box::new(Jetson::probe(root)?)),
        BoardChoice::Linux => Ok(Box::new(Linux::probe(root))),
        BoardChoice::Auto => {
            if let Ok(board) = RaspberryPi::probe() {
                return Ok(Box::new(board));
            }
            if let Ok(board) = Jetson::probe(root) {
                return Ok(Box::new(board));
            }
            if has_pins(root) { Ok(Box::new(Linux::probe(root))) } else { Ok(Box::new(Host)) }
        }
    }
}

/// The model that the device tree names; `None` where there is no device tree.
pub(super) fn device_tree_model(root: &Path) -> Option<String> {
    let model = fs::read(root.join("proc/device-tree/model")).ok()?;
    let model = String::from_utf8_lossy(&model).trim_matches(['\0', '\n', ' ']).to_owned();
    (!model.is_empty()).then_some(model)
}

/// Whether there is any node of an SPI device, an I2C bus or a GPIO chip.
fn has_pins(root: &Path) -> bool {
    let nodes = fs::read_dir(root.join("dev")).into_iter().flatten().flatten();
    nodes
        .map(|node| node.file_name())
        .any(|name| ["spidev", "i2c-", "gpiochip"].iter().any(|kind| name.to_string_lossy().starts_with(kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system with these nodes in `/dev` and this model in its device tree.
    fn machine(nodes: &[&str], model: Option<&str>, compatible: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("dev")).unwrap();
        for node in nodes {
            fs::write(root.path().join("dev").join(node), "").unwrap();
        }
        if let Some(model) = model {
            let tree = root.path().join("proc/device-tree");
            fs::create_dir_all(&tree).unwrap();
            fs::write(tree.join("model"), format!("{model}\0")).unwrap();
            fs::write(tree.join("compatible"), compatible).unwrap();
        }
        root
    }

    #[test]
    fn names_of_boards() {
        assert_eq!("raspberry_pi".parse(), Ok(BoardChoice::RaspberryPi));
        assert_eq!("auto".parse(), Ok(BoardChoice::default()));
        for name in BoardChoice::NAMES {
            name.parse::<BoardChoice>().unwrap();
        }
        assert!("pi".parse::<BoardChoice>().unwrap_err().contains("raspberry_pi"));
    }

    #[test]
    fn probing_tells_boards_by_device_tree_and_nodes() {
        if RaspberryPi::probe().is_ok() {
            println!("skipped: this machine is a Raspberry Pi");
            return;
        }
        /// Nodes in `/dev`, model and compatible names of the device tree; the board, and words of its model.
        type Case<'a> = (&'a [&'a str], Option<&'a str>, &'a str, &'a str, &'a str);
        let cases: [Case<'_>; 6] = [
            (&["null", "tty0"], None, "", "host", ""),
            (&["i2c-0"], None, "", "linux", "Linux"),
            (&["gpiochip0"], Some("Radxa ROCK 4"), "radxa,rock4\0", "linux", "Radxa ROCK 4"),
            (&["spidev0.0"], Some("NVIDIA Jetson Orin Nano Developer Kit"), "", "jetson", "Jetson Orin Nano"),
            (&[], Some("Quill"), "nvidia,p2597\0nvidia,tegra186\0", "jetson", "Quill"),
            (&[], Some(""), "", "host", ""),
        ];
        for (nodes, model, compatible, name, words) in cases {
            let root = machine(nodes, model, compatible);
            let board = select_under(BoardChoice::Auto, root.path()).unwrap();
            assert_eq!(board.name(), name, "{nodes:?} {model:?}");
            assert!(board.model().contains(words), "{}", board.model());
        }
    }

    #[test]
    fn a_board_that_this_machine_is_not_is_refused_with_what_it_is() {
        let root = machine(&[], Some("Radxa ROCK 4"), "radxa,rock4\0");
        let error = select_under(BoardChoice::Jetson, root.path()).unwrap_err();
        assert!(matches!(error, BoardError::NotThisBoard { asked: "jetson", .. }));
        assert!(error.to_string().contains("its device tree says `Radxa ROCK 4`"), "{error}");
        let error = select_under(BoardChoice::Jetson, machine(&[], None, "").path()).unwrap_err();
        assert!(error.to_string().contains("it has no device tree"), "{error}");
        // The device nodes can be asked for on any machine.
        assert_eq!(select_under(BoardChoice::Linux, machine(&[], None, "").path()).unwrap().name(), "linux");
    }
}
