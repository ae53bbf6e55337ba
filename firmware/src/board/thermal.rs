//! How hot the board is, by the kernel's thermal zones.

use std::fs;
use std::path::Path;

/// What a sensor of a board can mean, in degrees Celsius; anything else is a sensor that is off.
const PLAUSIBLE: std::ops::RangeInclusive<f32> = -40.0..=150.0;

/// The temperature of the processor in degrees Celsius, from the thermal zones under the root of sysfs (`/sys` on a running
/// system): the hottest zone of a processor, or the hottest of all where none says that it is one; `None` without any.
pub fn temperature(sysfs: &Path) -> Option<f32> {
    let zones = fs::read_dir(sysfs.join("class/thermal")).ok()?;
    let mut of_processor: Option<f32> = None;
    let mut of_any: Option<f32> = None;
    for zone in zones.flatten() {
        if !zone.file_name().to_string_lossy().starts_with("thermal_zone") {
            continue;
        }
        let read = |name| fs::read_to_string(zone.path().join(name));
        let Some(degrees) = read("temp").ok().and_then(|text| text.trim().parse::<f32>().ok()).map(|v| v / 1000.0)
        else {
            continue;
        };
        if !PLAUSIBLE.contains(&degrees) {
            continue;
        }
        of_any = Some(of_any.map_or(degrees, |hottest| hottest.max(degrees)));
        let kind = read("type").unwrap_or_default().to_lowercase();
        if ["cpu", "soc", "x86_pkg"].iter().any(|word| kind.contains(word)) {
            of_processor = Some(of_processor.map_or(degrees, |hottest| hottest.max(degrees)));
        }
    }
    of_processor.or(of_any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysfs(zones: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (i, (kind, temp)) in zones.iter().enumerate() {
            let zone = root.path().join(format!("class/thermal/thermal_zone{i}"));
            fs::create_dir_all(&zone).unwrap();
            fs::write(zone.join("type"), kind).unwrap();
            fs::write(zone.join("temp"), temp).unwrap();
        }
        root
    }

    #[test]
    fn the_hottest_zone_of_a_processor_counts() {
        let of = |zones: &[(&str, &str)]| temperature(sysfs(zones).path());
        assert_eq!(of(&[("cpu-thermal\n", "52123\n")]), Some(52.123));
        assert_eq!(
            of(&[("GPU-therm\n", "70000\n"), ("CPU-therm\n", "48500\n"), ("soc0-thermal\n", "49000\n")]),
            Some(49.0)
        );
        assert_eq!(of(&[("acpitz\n", "27800\n"), ("pch\n", "41000\n")]), Some(41.0));
    }

    #[test]
    fn sensors_that_are_off_or_not_there_are_no_temperature() {
        let of = |zones: &[(&str, &str)]| temperature(sysfs(zones).path());
        assert_eq!(of(&[("cpu-thermal", "-256000\n")]), None);
        assert_eq!(of(&[("cpu-thermal", "hot\n"), ("board", "30000")]), Some(30.0));
        assert_eq!(of(&[]), None);
        let without_cooling = sysfs(&[]);
        fs::create_dir_all(without_cooling.path().join("class/thermal/cooling_device0")).unwrap();
        assert_eq!(temperature(without_cooling.path()), None);
    }
}
