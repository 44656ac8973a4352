//! What is said about streams as such, whatever they carry: headers of the PROXY protocol on both sides, the routing of
//! TLS by the names in its first message, and how clusters of tunnels connect. Called by the topology.

use crate::config::fault::Faults;
use crate::config::keys::default_number;
use crate::config::keys::key;
use crate::config::keys::last;
use crate::config::network::addresses;
use crate::config::network::networks;
use crate::config::plan::AnnouncedPlan;
use crate::config::plan::ClusterPlan;
use crate::config::plan::PassthroughPlan;
use crate::config::plan::Protocol;
use crate::config::plan::ProxyVersion;
use crate::config::plan::ProxyVersions;
use crate::config::plan::ServerName;
use crate::config::said::Entry;
use crate::config::said::Layer;

/// How connections of a listener say whose they are, if they do.
pub(super) fn announced(entry: &Entry, faults: &mut Faults) -> Option<AnnouncedPlan> {
    let layer = &entry.layer;
    let versions = match layer.text("listeners[].proxy_protocol").map_or("off", |(word, _)| word) {
        "v1" => ProxyVersions::V1,
        "v2" => ProxyVersions::V2,
        "any" => ProxyVersions::Any,
        _ => {
            without_effect(
                entry,
                &["listeners[].proxy_trusted", "listeners[].proxy_timeout"],
                "without proxy_protocol",
                faults,
            );
            return None;
        }
    };
    let trusted = layer.texts("listeners[].proxy_trusted");
    if trusted.is_empty() {
        let place = entry.place_of("listeners[].proxy_protocol");
        let message =
            "proxy_trusted: is missing; name the networks whose word is taken for the client's address";
        faults.add(place, format!("{}.{message}", entry.name));
        return None;
    }
    let trusted = networks(trusted, &format!("{}.proxy_trusted", entry.name), faults);
    Some(AnnouncedPlan { versions, trusted, timeout_ms: number(layer, "listeners[].proxy_timeout") })
}

/// How a listener looks into TLS, if it does. `has_cluster` says whether there is a way for what has no route.
pub(super) fn passthrough(
    entry: &Entry,
    protocol: Protocol,
    has_cluster: bool,
    faults: &mut Faults,
) -> Option<PassthroughPlan> {
    let said = entry.layer.text("listeners[].tls_passthrough").filter(|(word, _)| *word != "off");
    let Some((word, place)) = said else {
        without_effect(entry, PASSTHROUGH_KEYS, "without tls_passthrough", faults);
        return None;
    };
    if protocol != Protocol::Tcp {
        faults.add(
            place.clone(),
            format!("{}.tls_passthrough: has no effect but on a tcp listener", entry.name),
        );
    }
    let is_required = word == "required";
    if !is_required && !has_cluster {
        let message = "tls_passthrough: what is no TLS needs a cluster; name one, or say required";
        faults.add(place.clone(), format!("{}.{message}", entry.name));
    }
    let name_required = entry.layer.switch("listeners[].server_name_required").is_some_and(|(on, _)| on);
    let timeout_ms = number(&entry.layer, "listeners[].hello_timeout");
    Some(PassthroughPlan { is_required, name_required, timeout_ms })
}

/// What only a listener with `tls_passthrough` takes.
const PASSTHROUGH_KEYS: &[&str] = &["listeners[].hello_timeout", "listeners[].server_name_required"];

/// A name, or all names under one.
pub(super) fn server_name(text: &str) -> Option<ServerName> {
    let is_name = |name: &str| {
        let label = |label: &str| {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            !label.is_empty() && label.bytes().all(letter)
        };
        name.len() <= 253 && name.split('.').all(label)
    };
    let lower = text.to_ascii_lowercase();
    match lower.strip_prefix("*.") {
        Some(under) => is_name(under).then(|| ServerName::Under(under.to_owned())),
        None => is_name(&lower).then_some(ServerName::Exact(lower)),
    }
}

/// `cluster` with what is said about how its connections are made.
pub(super) fn connecting(entry: &Entry, cluster: ClusterPlan, faults: &mut Faults) -> ClusterPlan {
    let layer = &entry.layer;
    let text = |path| layer.text(path).map(|(text, _)| text);
    let sources = format!("{}.source_addresses", entry.name);
    ClusterPlan {
        proxy_protocol: match text("clusters[].proxy_protocol") {
            Some("v1") => Some(ProxyVersion::V1),
            Some("v2") => Some(ProxyVersion::V2),
            _ => None,
        },
        connect_attempts: number(layer, "clusters[].connect_attempts") as u32,
        retry_percent: number(layer, "clusters[].retry_percent") as u32,
        retry_per_second: number(layer, "clusters[].retry_per_second") as u32,
        retry_burst_max: number(layer, "clusters[].retry_burst_max") as u32,
        source_addresses: addresses(layer.texts("clusters[].source_addresses"), &sources, faults),
        original_destination: layer.switch("clusters[].original_destination").is_some_and(|(on, _)| on),
        ..cluster
    }
}

/// What only a cluster of tunnels takes: elsewhere a connection carries more than one client.
pub(super) const TUNNEL_CLUSTER_KEYS: &[&str] = &["clusters[].proxy_protocol"];

/// What only a cluster takes whose connections are opened for one client's work.
pub(super) const ATTEMPTS_KEYS: &[&str] = &[
    "clusters[].connect_attempts",
    "clusters[].retry_percent",
    "clusters[].retry_per_second",
    "clusters[].retry_burst_max",
];

/// What a cluster without endpoints of its own does not take.
pub(super) const ENDPOINT_KEYS: &[&str] = &[
    "clusters[].protocol",
    "clusters[].balance",
    "clusters[].resolve_interval",
    "clusters[].reconnect_min",
    "clusters[].reconnect_max",
];

/// Refuses keys that would be ignored.
pub(super) fn without_effect(entry: &Entry, paths: &[&'static str], why: &str, faults: &mut Faults) {
    for &path in paths {
        if let Some(place) = entry.layer.place(path) {
            let message = format!("{}.{}: has no effect {why}", entry.name, last(path));
            faults.add(place.clone(), message);
        }
    }
}

fn number(layer: &Layer, path: &'static str) -> u64 {
    debug_assert!(!key(path).default.starts_with('('), "{path} has a number for a default");
    layer.number(path).map_or_else(|| default_number(path), |(number, _)| number)
}
