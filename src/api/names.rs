//! What names in a spec may look like, as CEL rules on a string. Their lengths are limited by the schema.

/// A DNS-1123 subdomain, which is what names of objects are.
pub const DNS_SUBDOMAIN: &str = "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')";

/// A DNS-1123 label, which is what names of namespaces are.
pub const DNS_LABEL: &str = "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')";

/// The name of an entry of a Secret.
pub const SECRET_ENTRY: &str = "self.matches('^[-._a-zA-Z0-9]+$')";

/// The keys of a map are label or annotation keys: a name of at most 63 characters, alone or after a DNS-1123
/// subdomain and `/`.
pub const QUALIFIED_NAMES: &str = "self.all(k, k.find('^[^/]*/').size() <= 254 && k.matches('\
    ^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
    [A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))";
