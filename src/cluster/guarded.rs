//! Objects as the watches bring them: one that can't be read must not stop the watch, and what nobody looks at
//! is not kept.

use std::{borrow::Cow, fmt, marker::PhantomData};

use kube::{Resource, api::ObjectMeta, core::PartialObjectMeta};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// An object, or why it can't be read. As [`kube::core::DeserializeGuard`], but it never builds `managedFields`,
/// which are more than half of an object of ours, and copies nothing but what it keeps.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Unreadable>);

/// An object that is there and can't be read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// What is wrong with it.
    pub problem: String,
    metadata: ObjectMeta,
}

impl<'de, K: DeserializeOwned + Resource> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Value::Object(deserializer.deserialize_map(Fields::<WithMetadata>(PhantomData))?);
        K::deserialize(&object).map(Ok).map(Self).or_else(|error| {
            let PartialObjectMeta::<K> { metadata, .. } =
                PartialObjectMeta::deserialize(&object).map_err(Error::custom)?;
            Ok(Self(Err(Unreadable { problem: error.to_string(), metadata })))
        })
    }
}

/// Which fields of a JSON object are built.
trait Level {
    fn value<'de, M: MapAccess<'de>>(field: &str, map: &mut M) -> Result<Option<Value>, M::Error>;
}

/// All, and of `metadata` less.
struct WithMetadata;

impl Level for WithMetadata {
    fn value<'de, M: MapAccess<'de>>(field: &str, map: &mut M) -> Result<Option<Value>, M::Error> {
        match field {
            "metadata" => map.next_value().map(|Metadata(fields)| Some(Value::Object(fields))),
            _ => map.next_value().map(Some),
        }
    }
}

/// All but `managedFields`.
struct WithoutManagedFields;

impl Level for WithoutManagedFields {
    fn value<'de, M: MapAccess<'de>>(field: &str, map: &mut M) -> Result<Option<Value>, M::Error> {
        match field {
            "managedFields" => map.next_value().map(|IgnoredAny| None),
            _ => map.next_value().map(Some),
        }
    }
}

struct Metadata(Map<String, Value>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields::<WithoutManagedFields>(PhantomData)).map(Self)
    }
}

struct Fields<L>(PhantomData<L>);

impl<'de, L: Level> Visitor<'de> for Fields<L> {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut fields = Map::new();
        while let Some(field) = map.next_key::<String>()? {
            if let Some(value) = L::value(&field, &mut map)? {
                fields.insert(field, value);
            }
        }
        Ok(fields)
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }

    fn group(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }

    fn version(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }

    fn plural(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;
    use crate::api::CustomerMasterKey;

    fn read(spec: Value) -> Guarded<CustomerMasterKey> {
        let object = json!({
            "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey",
            "metadata": {
                "name": "orders", "annotations": {"a": "b"},
                "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": spec,
        });
        // From text, as from an API server.
        serde_json::from_str(&object.to_string()).unwrap()
    }

    #[test]
    fn objects_are_read_without_managed_fields() {
        let object = read(json!({"description": "d"}));
        assert_eq!(object.managed_fields(), []);
        assert_eq!((object.name_any().as_str(), object.annotations()["a"].as_str()), ("orders", "b"));
        assert_eq!(object.0.unwrap().spec.description.as_deref(), Some("d"));
    }

    #[test]
    fn rule_16_an_unreadable_object_still_says_who_it_is() {
        let object = read(json!({"description": ["no", "text"]}));
        assert_eq!((object.name_any().as_str(), object.annotations()["a"].as_str()), ("orders", "b"));
        assert!(object.0.unwrap_err().problem.contains("invalid type"));
    }
}
