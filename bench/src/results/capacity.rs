//! Owns the estimate of how many connections a machine holds, from measured bytes and CPU: each resource gives a bound, the
//! lowest is the answer. And what it costs when all of them come back at once. Refuses to guess a figure that was not measured.

use serde::Serialize;

use crate::host::Facts;
use crate::results::figures::Figures;
use crate::results::figures::Metric;
use crate::trouble::Trouble;

/// What is asked.
#[derive(Clone, Debug)]
pub struct CapacityOptions {
    /// Whose figures.
    pub target: String,
    /// Requests per second on each connection.
    pub rate_per_connection: f64,
    /// Of 100, the CPU that may be busy: what is above serves peaks.
    pub busy_percent: f64,
    /// Of 100, the memory that connections may take.
    pub memory_percent: f64,
    /// Gateway processes.
    pub processes: usize,
}

/// How many connections, and why no more.
#[derive(Clone, Debug, Serialize)]
pub struct Capacity {
    /// Always "capacity".
    pub event: &'static str,
    /// Whose figures.
    pub target: String,
    /// The lowest bound.
    pub connections: u64,
    /// What gives it.
    pub bound_by: &'static str,
    /// By memory: the gateway's, and the kernel's for one socket.
    pub by_memory: u64,
    /// By CPU, at the rate that was asked for.
    pub by_cpu: u64,
    /// By descriptors of all processes.
    pub by_descriptors: u64,
    /// Measured: user memory of an idle connection.
    pub bytes_per_connection: f64,
    /// Measured: the kernel's for one socket.
    pub kernel_bytes_per_connection: f64,
    /// Measured, with the most connections that were.
    pub us_per_request: f64,
    /// Measured: accepted, one request, closed.
    pub us_per_connection: f64,
    /// How long all processors work when all connections come back at once.
    pub storm_seconds: f64,
}

/// Draws the estimate.
pub fn capacity(figures: &Figures, machine: &Facts, options: &CapacityOptions) -> Result<Capacity, Trouble> {
    let target = &options.target;
    let find = |scenario: &str, windows: &[&str], metric: Metric| {
        let found = windows.iter().find_map(|window| figures.find(scenario, window, target, metric));
        found.map(|spread| spread.median).ok_or_else(|| {
            let what = metric.label();
            Trouble::Asked(format!(
                "no {what} of {target} in these results: bowline-bench run {scenario} measures it"
            ))
        })
    };
    let bytes = find("idle", &["bolt"], Metric::BytesPerConnection)?.max(0.0);
    // Both ends were on the machine that was measured on.
    let kernel = (find("idle", &["bolt"], Metric::KernelPerConnection)? / 2.0).max(0.0);
    let us_per_request = find("scale", &["17000", "9000", "5000", "1000"], Metric::CpuPerRequest)?;
    let us_per_connection = find("churn", &["m5"], Metric::CpuPerConnection)?;
    let cores = machine.cores as f64;
    let by_memory = machine.memory_bytes as f64 * options.memory_percent / 100.0 / (bytes + kernel).max(1.0);
    let busy_us = 1e6 * cores * options.busy_percent / 100.0;
    let by_cpu = busy_us / (us_per_request * options.rate_per_connection).max(1e-9);
    let by_descriptors = machine.descriptors.saturating_sub(DESCRIPTORS_KEPT) * options.processes as u64;
    let bounds = [("memory", by_memory as u64), ("CPU", by_cpu as u64), ("descriptors", by_descriptors)];
    let (bound_by, connections) =
        bounds.into_iter().min_by_key(|(_, connections)| *connections).unwrap_or(("nothing", 0));
    Ok(Capacity {
        event: "capacity",
        target: target.clone(),
        connections,
        bound_by,
        by_memory: by_memory as u64,
        by_cpu: by_cpu as u64,
        by_descriptors,
        bytes_per_connection: bytes,
        kernel_bytes_per_connection: kernel,
        us_per_request,
        us_per_connection,
        storm_seconds: connections as f64 * us_per_connection / 1e6 / cores.max(1.0),
    })
}

impl Capacity {
    /// For people.
    pub fn summary(&self) -> String {
        format!(
            "{}: {} connections, bound by {} (memory {}, CPU {}, descriptors {})\n\
             measured: {:.0} bytes and {:.0} of the kernel per connection, {:.1} us per request, {:.1} us per connection\n\
             when all come back at once, all processors work for {:.1} s",
            self.target,
            self.connections,
            self.bound_by,
            self.by_memory,
            self.by_cpu,
            self.by_descriptors,
            self.bytes_per_connection,
            self.kernel_bytes_per_connection,
            self.us_per_request,
            self.us_per_connection,
            self.storm_seconds
        )
    }
}

/// What the gateway keeps for itself by default.
const DESCRIPTORS_KEPT: u64 = 512;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::results::figures::tests::measured;
    use crate::results::figures::tests::run;
    use crate::scenario::record::MeasuredRecord;
    use crate::scenario::record::Record;

    fn records() -> Vec<Record> {
        let record = |scenario: &str, window: &str, result| {
            let base = measured(window, "raw", 0, 1.0);
            Record::Measured(MeasuredRecord { scenario: scenario.into(), result, ..base })
        };
        vec![
            run(),
            record(
                "idle",
                "bolt",
                json!({ "bytes_per_connection": 240.0, "idle": { "kernel_slab_bytes_per_connection": 7_520.0 } }),
            ),
            record("scale", "9000", json!({ "processes_cpu": [{ "us_per_request": 50.0 }] })),
            record("churn", "m5", json!({ "us_per_connection": 100.0 })),
        ]
    }

    const MACHINE_BYTES: u64 = 8_000_000_000;

    fn asked(rate_per_connection: f64, processes: usize) -> Result<Capacity, Trouble> {
        let machine =
            Facts { cores: 2, memory_bytes: MACHINE_BYTES, descriptors: 20_512, ..Facts::default() };
        let options = CapacityOptions {
            target: "raw".into(),
            rate_per_connection,
            busy_percent: 50.0,
            memory_percent: 50.0,
            processes,
        };
        capacity(&Figures::of(&records()), &machine, &options)
    }

    #[test]
    fn the_lowest_bound_is_the_answer() {
        let capacity = asked(0.01, 1).expect("all was measured");
        assert_eq!((capacity.connections, capacity.bound_by), (20_000, "descriptors"));
        assert_eq!((capacity.by_memory, capacity.by_cpu), (1_000_000, 2_000_000));
        assert!((capacity.storm_seconds - 1.0).abs() < 1e-9);
        assert_eq!(asked(0.01, 100).expect("measured").bound_by, "memory");
        let busy = asked(1.0, 100).expect("measured");
        assert_eq!((busy.connections, busy.bound_by), (20_000, "CPU"));
    }

    #[test]
    fn what_was_not_measured_is_named_with_the_way_to_measure_it() {
        let options = CapacityOptions {
            target: "tokio".into(),
            rate_per_connection: 1.0,
            busy_percent: 50.0,
            memory_percent: 50.0,
            processes: 1,
        };
        let error =
            capacity(&Figures::of(&records()), &Facts::default(), &options).expect_err("not measured");
        assert!(error.to_string().contains("tokio") && error.to_string().contains("run idle"), "{error}");
    }
}
