//! The 26 actions of V-COCO with their roles, and the ways in which papers count them.

/// What the second box of a pair is to the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// What the action is done to; `obj` in the files.
    Object,
    /// What the action is done with or on; `instr` in the files.
    Instrument,
}

impl Role {
    /// Its name in the official files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "obj",
            Self::Instrument => "instr",
        }
    }
}

/// An action as the official files list it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// Its name.
    pub name: &'static str,
    /// Its roles after the agent, in the official order; empty for bodily motions.
    pub roles: &'static [Role],
}

const OBJECT: &[Role] = &[Role::Object];
const INSTRUMENT: &[Role] = &[Role::Instrument];

const fn action(name: &'static str, roles: &'static [Role]) -> Action {
    Action { name, roles }
}

/// The 26 actions in the official order.
pub const ACTIONS: [Action; 26] = [
    action("hold", OBJECT),
    action("stand", &[]),
    action("sit", INSTRUMENT),
    action("ride", INSTRUMENT),
    action("walk", &[]),
    action("look", OBJECT),
    action("hit", &[Role::Instrument, Role::Object]),
    action("eat", &[Role::Object, Role::Instrument]),
    action("jump", INSTRUMENT),
    action("lay", INSTRUMENT),
    action("talk_on_phone", INSTRUMENT),
    action("carry", OBJECT),
    action("throw", OBJECT),
    action("catch", OBJECT),
    action("cut", &[Role::Instrument, Role::Object]),
    action("run", &[]),
    action("work_on_computer", INSTRUMENT),
    action("ski", INSTRUMENT),
    action("surf", INSTRUMENT),
    action("skateboard", INSTRUMENT),
    action("smile", &[]),
    action("drink", INSTRUMENT),
    action("kick", OBJECT),
    action("point", INSTRUMENT),
    action("read", OBJECT),
    action("snowboard", INSTRUMENT),
];

/// An action together with one of its roles: what a network has a score for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionRole {
    /// Index into [`ACTIONS`].
    pub action: usize,
    /// Index into the roles of that action; `None` for an action without a role.
    pub role: Option<usize>,
}

impl ActionRole {
    /// Its name as in UPT's files: `hold obj`, `stand`.
    pub fn name(self) -> String {
        let action = &ACTIONS[self.action];
        match self.role {
            Some(role) => format!("{} {}", action.name, action.roles[role].name()),
            None => action.name.to_owned(),
        }
    }
}

/// Which action-roles a network or a mean has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActionRoles {
    /// 24 with a role, without `point` (UPT, RmLR).
    WithoutPoint,
    /// 25 with a role (official mean).
    WithRole,
    /// 29: those and the four actions without a role (QPIC, GEN-VLKT).
    All,
}

impl ActionRoles {
    /// The action-roles, by action and then by role, both in the official order.
    pub fn list(self) -> Vec<ActionRole> {
        let mut list = Vec::new();
        for (action, Action { name, roles }) in ACTIONS.iter().enumerate() {
            let kept = match self {
                Self::WithoutPoint => *name != "point",
                Self::WithRole | Self::All => true,
            };
            if kept {
                list.extend((0..roles.len()).map(|role| ActionRole { action, role: Some(role) }));
            }
            if roles.is_empty() && self == Self::All {
                list.push(ActionRole { action, role: None });
            }
        }
        list
    }
}
