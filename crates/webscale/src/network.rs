//! Ranges of IP addresses, as `10.0.0.0/8`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of IP addresses, written as its first address and the bits that all of them share: `10.0.0.0/8`,
/// `2001:db8::/32`, or one address alone (RFC 4632, RFC 4291 §2.3).
///
/// ```
/// use webscale::Network;
/// let network: Network = "10.1.0.0/16".parse()?;
/// assert!(network.contains("10.1.2.3".parse()?) && !network.contains("10.2.0.1".parse()?));
/// // An IPv4 address in IPv6 clothes, as a socket that takes both shows it.
/// assert!(network.contains("::ffff:10.1.2.3".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

/// Why a text is no [`Network`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NetworkError {
    /// What stands before the `/` is no IP address.
    Address,
    /// What stands behind it is no number of bits that such an address has.
    Prefix,
    /// The address has bits behind the prefix: this is the network that it lies in.
    HostBits(Network),
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => {
                f.write_str("not an IP address; 10.0.0.0/8, 2001:db8::/32 and 192.0.2.7 are networks")
            }
            Self::Prefix => f.write_str("not a number of bits: 0 to 32 for IPv4, 0 to 128 for IPv6"),
            Self::HostBits(network) => write!(f, "not the first address of its network, which is {network}"),
        }
    }
}

impl std::error::Error for NetworkError {}

impl Network {
    /// Whether `address` lies in it. An IPv4-mapped IPv6 address is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        first(address.to_canonical(), self.prefix) == Some(self.first)
    }
}

/// The address with all bits behind the first `prefix` cleared; `None` where it has fewer.
fn first(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix)?).unwrap_or(0);
            Some(Ipv4Addr::from_bits(address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(prefix)?).unwrap_or(0);
            Some(Ipv6Addr::from_bits(address.to_bits() & mask).into())
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(text, bits)| (text, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let prefix = match prefix {
            Some(bits) => bits.parse().map_err(|_| NetworkError::Prefix)?,
            None if address.is_ipv4() => 32,
            None => 128,
        };
        let first = first(address, prefix).ok_or(NetworkError::Prefix)?;
        let network = Self { first, prefix };
        if first == address { Ok(network) } else { Err(NetworkError::HostBits(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_network() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.7/32", "::ffff:192.0.2.7", "::ffff:192.0.2.6"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "2001:db8::1", "192.0.2.7"),
            ("::1", "::1", "127.0.0.1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network}");
            assert!(!network.contains(outside.parse().unwrap()), "{network}");
            assert_eq!(network.to_string().parse(), Ok(network));
        }
    }

    #[test]
    fn what_is_no_network() {
        let parse = |text: &str| text.parse::<Network>().unwrap_err();
        for text in ["", "/8", "example.com", "10.0.0/8", "10.0.0.0:80/8"] {
            assert_eq!(parse(text), NetworkError::Address, "{text}");
        }
        for text in ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert_eq!(parse(text), NetworkError::Prefix, "{text}");
        }
        let error = parse("10.1.2.3/8");
        assert_eq!(error, NetworkError::HostBits("10.0.0.0/8".parse().unwrap()));
        assert!(error.to_string().ends_with("10.0.0.0/8"));
    }
}
