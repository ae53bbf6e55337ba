//! Collecting what a person does.

use hoi_runtime::geometry::BBox;

use super::{ACTIONS, ActionRole, VCocoAction, VCocoPerson};

impl VCocoPerson {
    /// A person of whom nothing is known yet.
    pub(super) fn new(bbox: BBox) -> Self {
        Self { bbox, annotated: false, actions: Vec::new() }
    }

    /// Notes an action, and the box of one of its roles if there is one. A role that is there already stays.
    pub(super) fn note(&mut self, ActionRole { action, role }: ActionRole, bbox: Option<BBox>) {
        self.annotated = true;
        let at = self.actions.partition_point(|known| known.action < action);
        if self.actions.get(at).is_none_or(|known| known.action != action) {
            self.actions.insert(at, VCocoAction { action, roles: vec![None; ACTIONS[action].roles.len()] });
        }
        if let Some(role) = role.and_then(|role| self.actions[at].roles.get_mut(role)) {
            *role = role.or(bbox);
        }
    }
}
