//! Everything that lists.

use serde::Deserialize;

use super::{Text, members};
use crate::server::{
    Failure,
    aws::{
        action::Action,
        limits,
        pagination::{List, Page},
    },
};

/// What a list is asked for.
#[derive(Debug, PartialEq)]
pub(in crate::server::aws) enum ListInput<'a> {
    /// `own`: the keys of the caller, which are all that there are.
    Keys {
        page: Page,
        own: bool,
    },
    Aliases {
        key_id: Option<Text<'a>>,
        page: Page,
    },
    Tags {
        key_id: Text<'a>,
        page: Page,
    },
    Policies {
        key_id: Text<'a>,
        page: Page,
    },
    Rotations {
        key_id: Text<'a>,
        page: Page,
        which: RotationsToList,
    },
}

/// Which versions of a key ListKeyRotations shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server::aws) enum RotationsToList {
    /// Those that rotations made.
    RotationsOnly,
    /// The first one as well.
    AllKeyMaterial,
}

/// All members of these operations.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Members<'a> {
    #[serde(borrow)]
    key_id: Option<Text<'a>>,
    limit: Option<i64>,
    marker: Option<Text<'a>>,
    resource_owners: Option<Vec<Text<'a>>>,
    include_key_material: Option<Text<'a>>,
}

pub(super) fn read(action: Action, body: &[u8]) -> Result<ListInput<'_>, Failure> {
    let members: Members<'_> = members(body)?;
    Ok(match action {
        Action::ListKeys => ListInput::Keys { page: members.page(List::KEYS)?, own: members.own()? },
        Action::ListAliases => {
            let page = members.page(List::ALIASES)?;
            let key_id = members.key_id.is_some().then(|| members.key()).transpose()?;
            ListInput::Aliases { key_id, page }
        }
        Action::ListResourceTags => ListInput::Tags { page: members.page(List::TAGS)?, key_id: members.key()? },
        Action::ListKeyPolicies => ListInput::Policies { page: members.page(List::POLICIES)?, key_id: members.key()? },
        Action::ListKeyRotations => {
            let which = members.which()?;
            ListInput::Rotations { page: members.page(List::ROTATIONS)?, key_id: members.key()?, which }
        }
        other => return Err(Failure::UnknownOperation(other.as_str().to_owned())),
    })
}

impl<'a> Members<'a> {
    fn page(&self, list: List) -> Result<Page, Failure> {
        Page::read(list, self.limit, self.marker.as_deref())
    }

    fn key(self) -> Result<Text<'a>, Failure> {
        let key_id = limits::required(self.key_id, "KeyId")?;
        limits::key_only("KeyId", &key_id)?;
        Ok(key_id)
    }

    fn own(&self) -> Result<bool, Failure> {
        let Some(owners) = &self.resource_owners else {
            return Ok(true);
        };
        limits::length("ResourceOwners", owners.len(), 1..=2, None)?;
        let mut own = false;
        for owner in owners {
            own |= limits::one_of("ResourceOwners", owner, &[("SELF", true), ("OTHER_ACCOUNTS_VIA_RAM", false)])?;
        }
        Ok(own)
    }

    fn which(&self) -> Result<RotationsToList, Failure> {
        let all =
            [("ROTATIONS_ONLY", RotationsToList::RotationsOnly), ("ALL_KEY_MATERIAL", RotationsToList::AllKeyMaterial)];
        match &self.include_key_material {
            Some(which) => limits::one_of("IncludeKeyMaterial", which, &all),
            None => Ok(RotationsToList::RotationsOnly),
        }
    }
}
