//! What the score takes from V-COCO's annotation.

use hoi_runtime::geometry::{BBox, Size};

/// What the second box of a pair is to the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// `obj` in the files.
    Object,
    /// `instr` in the files.
    Instrument,
}

/// An action of the official list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// Its name.
    pub name: &'static str,
    /// Its roles after the agent, in the official order.
    pub roles: &'static [Role],
}

const O: &[Role] = &[Role::Object];
const I: &[Role] = &[Role::Instrument];
const IO: &[Role] = &[Role::Instrument, Role::Object];
const OI: &[Role] = &[Role::Object, Role::Instrument];
const NONE: &[Role] = &[];

/// The 26 actions in the official order.
pub const ACTIONS: [Action; 26] = {
    const fn row(name: &'static str, roles: &'static [Role]) -> Action {
        Action { name, roles }
    }
    [
        row("hold", O),
        row("stand", NONE),
        row("sit", I),
        row("ride", I),
        row("walk", NONE),
        row("look", O),
        row("hit", IO),
        row("eat", OI),
        row("jump", I),
        row("lay", I),
        row("talk_on_phone", I),
        row("carry", O),
        row("throw", O),
        row("catch", O),
        row("cut", IO),
        row("run", NONE),
        row("work_on_computer", I),
        row("ski", I),
        row("surf", I),
        row("skateboard", I),
        row("smile", NONE),
        row("drink", I),
        row("kick", O),
        row("point", I),
        row("read", O),
        row("snowboard", I),
    ]
};

/// An action with one of its roles, or an action alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionRole {
    /// Index into [`ACTIONS`].
    pub action: usize,
    /// Index into the roles of that action; `None` for the action alone.
    pub role: Option<usize>,
}

impl ActionRole {
    /// `hold obj`; `stand` for the action alone.
    pub fn name(self) -> String {
        let Action { name, roles } = &ACTIONS[self.action];
        match self.role.map(|role| roles[role]) {
            Some(Role::Object) => format!("{name} obj"),
            Some(Role::Instrument) => format!("{name} instr"),
            None => (*name).to_owned(),
        }
    }
}

/// An image with its persons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VCocoImage {
    /// COCO's id.
    pub number: u64,
    /// File name of the image.
    pub name: String,
    /// Size of the image; `None` where the files do not say it.
    pub size: Option<Size>,
    /// All persons, in COCO's order.
    pub persons: Vec<VCocoPerson>,
}

/// A person.
#[derive(Clone, Debug, PartialEq)]
pub struct VCocoPerson {
    /// Its box, 0-based continuous pixels of the original image: COCO's x, y, x + w, y + h.
    pub bbox: BBox,
    /// Whether V-COCO says anything about this person.
    pub annotated: bool,
    /// What the person does.
    pub actions: Vec<VCocoAction>,
}

/// An action of a person.
#[derive(Clone, Debug, PartialEq)]
pub struct VCocoAction {
    /// Index into [`ACTIONS`].
    pub action: usize,
    /// The box of each role, in the order of [`Action::roles`]; `None` where it is not annotated.
    pub roles: Vec<Option<BBox>>,
}
