//! What the process may do.

/// How to get what is missing.
pub const REMEDY: &str = "run turnip as root, or by its systemd unit, which grants both";

const NEEDED: [(&str, u32); 2] = [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13)];

/// The capabilities that turnip needs and this process does not have.
///
/// # Errors
/// When the kernel does not tell.
pub fn missing() -> Result<Vec<&'static str>, String> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("the privileges of this process cannot be read: {error}"))?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or("the kernel does not tell the privileges of this process")?;
    let lacks = |(_, bit): &&(&str, u32)| effective & (1 << bit) == 0;
    Ok(NEEDED.iter().filter(lacks).map(|(name, _)| *name).collect())
}
