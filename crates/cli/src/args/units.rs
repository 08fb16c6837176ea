//! Durations and sizes as people write them.

use std::time::Duration;

/// Sums of some such times fit into every clock.
const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// Reads `500ms`, `30s`, `1.5s`, `5m`, `1h`, `2d`, `100us`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "" => return Err(format!("{text:?} has no unit: write {text}s, {text}ms or {text}m")),
        _ => return Err(format!("{unit:?} is no unit of time: use us, ms, s, m, h or d")),
    };
    let time = Duration::try_from_secs_f64(number * seconds).ok().filter(|time| *time <= LONGEST);
    time.ok_or_else(|| format!("{text:?} is too long: 36500d is the most"))
}

/// Reads a number above zero: `7`, `10k`, `1.5M`.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    let (number, unit) = split_multiple(text)?;
    if !unit.is_empty() || number.fract() != 0.0 || !(1.0..=f64::from(u32::MAX)).contains(&number) {
        return Err(format!("wanted a whole number from 1 to {}, as 500 or 10k", u32::MAX));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked: whole, in range")]
    Ok(number as u32)
}

/// Reads how often something happens, a second: `200/s`, `10k/s`, `90/m`, `1.5/h`; without a unit, a second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let (number, unit) = split_multiple(text)?;
    let rate = match unit {
        "" | "/s" => number,
        "/m" => number / 60.0,
        "/h" => number / 3600.0,
        _ => return Err(format!("{unit:?} is no unit of rate: use /s, /m or /h")),
    };
    if rate > 0.0 { Ok(rate) } else { Err("a rate must be above zero".into()) }
}

/// Reads a share of a whole: `5%` or `0.05`.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text)?;
    let share = match unit {
        "" => number,
        "%" => number / 100.0,
        _ => return Err(format!("{unit:?} is no unit of a share: write 5% or 0.05")),
    };
    if share <= 1.0 { Ok(share) } else { Err(format!("{text:?} is more than all; 5% or 0.05 is a share")) }
}

/// Reads a number of bytes: `4096`, `16KiB`, `1MiB`, `10kB`, `2GB`.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text)?;
    let scale = match unit {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("{unit:?} is no unit of size: use B, kB, MB, GB, KiB, MiB or GiB")),
    };
    let bytes = number * scale;
    // Beyond 2⁵³ a float no longer counts single bytes; nobody means that many.
    if bytes > 9e15 || bytes.fract() != 0.0 {
        return Err(format!("{text:?} is no whole number of bytes that can be handled"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked: whole, positive, below 2⁵³"
    )]
    Ok(bytes as usize)
}

/// A number, in thousands or millions where `k` or `M` follows it, and what follows then.
fn split_multiple(text: &str) -> Result<(f64, &str), String> {
    let (number, unit) = split(text)?;
    Ok(match unit.split_at_checked(1) {
        Some(("k", unit)) => (number * 1e3, unit),
        Some(("M", unit)) => (number * 1e6, unit),
        _ => (number, unit),
    })
}

/// A number that is not negative, and what follows it.
fn split(text: &str) -> Result<(f64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.parse().map_err(|_| format!("{text:?} does not begin with a number"))?;
    Ok((number, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases =
            [("500ms", 500_000), ("30s", 30_000_000), ("1.5s", 1_500_000), ("5m", 300_000_000), ("7us", 7)];
        for (text, us) in cases {
            assert_eq!(duration(text), Ok(Duration::from_micros(us)), "{text}");
        }
        assert_eq!(duration("1 h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("36500d"), Ok(LONGEST));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for text in ["", "s", "-1s", "1", "1w", "1e3s", "1.2.3s", "99999999999999999999999999h", "36501d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration("30").unwrap_err().contains("30s"));
    }

    #[test]
    fn counts() {
        for (text, number) in [("1", 1), ("500", 500), ("10k", 10_000), ("1.5M", 1_500_000), ("0.5 k", 500)] {
            assert_eq!(count(text), Ok(number), "{text}");
        }
        assert_eq!(count("4294967295"), Ok(u32::MAX));
        for text in ["0", "", "-1", "k", "1.5", "1e3", "10K", "10kk", "10k/s", "4294967296", "5G"] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!((rate("200/s"), rate("90/m"), rate("7")), (Ok(200.0), Ok(1.5), Ok(7.0)));
        assert_eq!((rate("10k/s"), rate("1.5k"), rate("6M/m")), (Ok(10_000.0), Ok(1500.0), Ok(100_000.0)));
        for text in ["0/s", "", "/s", "5/d", "-1", "5m", "k", "5kk"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares() {
        assert_eq!(
            (share("5%"), share("0.05"), share("100%"), share("0")),
            (Ok(0.05), Ok(0.05), Ok(1.0), Ok(0.0))
        );
        assert!(share("5").unwrap_err().contains("5%"));
        assert!(share("101%").is_err() && share("x").is_err());
    }

    #[test]
    fn sizes() {
        let cases = [
            ("0", 0),
            ("4096", 4096),
            ("16MiB", 16 << 20),
            ("10kB", 10_000),
            ("1.5KiB", 1536),
            ("1 GB", 1_000_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5", "1m", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
