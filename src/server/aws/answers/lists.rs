//! Everything that lists, a page at a time.

use super::{Body, json};
use crate::{
    server::{
        Call, Failure,
        aws::{
            policy,
            requests::{ListInput, RotationsToList},
            responses::{AliasEntry, Aliases, KeyEntry, Keys, PolicyNames, RotationEntry, Rotations, TagEntry, Tags},
        },
        operations::{EndpointCluster, KeyReference, Kms},
    },
    store::KeyStore,
};

pub(super) async fn answer<C: EndpointCluster, S: KeyStore>(
    kms: &Kms<C, S>,
    call: &mut Call,
    input: ListInput<'_>,
) -> Result<Body, Failure> {
    match input {
        ListInput::Keys { page, own } => {
            let keys = kms.list_keys(call).await?;
            let keys = keys.iter().filter(|_| own).map(|key| KeyEntry::from(&key.name)).collect();
            let cut = page.cut(keys, |key: &KeyEntry| key.key_id.to_string());
            json(&Keys { keys: cut.items, end: cut.next_marker.into() })
        }
        ListInput::Aliases { key_id, page } => {
            let key = key_id.as_deref().map(KeyReference::parse);
            let aliases = kms.list_aliases(call, key.as_ref()).await?;
            let aliases = aliases.into_iter().map(AliasEntry::from).collect();
            // Two key stores may have the same alias in a namespace.
            let cut = page.cut(aliases, |alias: &AliasEntry| format!("{} {}", alias.alias_name, alias.target_key_id));
            json(&Aliases { aliases: cut.items, end: cut.next_marker.into() })
        }
        ListInput::Tags { key_id, page } => {
            let key = kms.describe_key(call, &KeyReference::parse(&key_id)).await?;
            let tags = key.key.record.tags.iter();
            let entry = |(key, value): (&String, &String)| TagEntry { tag_key: key.clone(), tag_value: value.clone() };
            let cut = page.cut(tags.map(entry).collect(), |tag| tag.tag_key.clone());
            json(&Tags { tags: cut.items, end: cut.next_marker.into() })
        }
        ListInput::Policies { key_id, page } => {
            kms.describe_key(call, &KeyReference::parse(&key_id)).await?;
            let cut = page.cut(vec![policy::NAME], |name| (*name).to_owned());
            json(&PolicyNames { policy_names: cut.items, end: cut.next_marker.into() })
        }
        ListInput::Rotations { key_id, page, which } => {
            let versions = kms.list_key_versions(call, &KeyReference::parse(&key_id)).await?;
            let mut entries = RotationEntry::of(&versions);
            entries.retain(|entry| entry.number > 0 || which == RotationsToList::AllKeyMaterial);
            let cut = page.cut(entries, |entry| format!("{:08}", entry.number));
            json(&Rotations { rotations: cut.items, end: cut.next_marker.into() })
        }
    }
}
