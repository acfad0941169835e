//! Links, addresses, routes and neighbours of a namespace, over netlink.

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow};
use futures::TryStreamExt;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourState,
};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder};

use crate::namespace::{LinkState, Namespace};

impl Namespace {
    /// A cable: `name` here, `other_name` in `other`, both up.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn cable(&self, name: &str, other: &Namespace, other_name: &str) -> Result<()> {
        let fd = other.raw_fd();
        // Unique here until it has moved.
        let moving = format!("m{:x}", other.inode() & 0xffff_ffff);
        self.netlink(|netlink| async move {
            netlink.link().add(LinkVeth::new(name, &moving).build()).execute().await?;
            let index = index_of(&netlink, &moving).await?;
            let there = LinkUnspec::new_with_index(index).setns_by_fd(fd).name(other_name).build();
            netlink.link().set(there).execute().await?;
            Ok(())
        })
        .with_context(|| format!("cable {name}"))?;
        self.set_link(name, LinkState::Up)?;
        other.set_link(other_name, LinkState::Up)
    }

    /// Makes a bridge that is up and carries `mac`, so that ports that come and go do not
    /// change it.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn bridge(&self, name: &str, mac: Option<[u8; 6]>) -> Result<()> {
        self.netlink(|netlink| async move {
            let mut bridge = LinkBridge::new(name).up().mcast_snooping(false);
            if let Some(mac) = mac {
                bridge = bridge.address(mac.to_vec());
            }
            Ok(netlink.link().add(bridge.build()).execute().await?)
        })
    }

    /// Puts a link into a bridge.
    ///
    /// # Errors
    /// When there is no such link or bridge.
    pub fn plug(&self, port: &str, bridge: &str) -> Result<()> {
        self.netlink(|netlink| async move {
            let bridge = index_of(&netlink, bridge).await?;
            let port = index_of(&netlink, port).await?;
            let message = LinkUnspec::new_with_index(port).controller(bridge).build();
            Ok(netlink.link().set_port(message).execute().await?)
        })
    }

    /// Takes a link out of its bridge.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn unplug(&self, port: &str) -> Result<()> {
        self.netlink(|netlink| async move {
            let port = index_of(&netlink, port).await?;
            let message = LinkUnspec::new_with_index(port).nocontroller().build();
            Ok(netlink.link().set_port(message).execute().await?)
        })
    }

    /// Makes a VXLAN link that floods to nobody until peers are added ([`Self::vxlan_peer`]).
    ///
    /// # Errors
    /// When the name is taken.
    pub fn vxlan(&self, name: &str, id: u32, local: std::net::Ipv4Addr) -> Result<()> {
        self.netlink(|netlink| async move {
            let link = LinkVxlan::new(name, id).local(local).port(4789).learning(true).up();
            Ok(netlink.link().add(link.build()).execute().await?)
        })
    }

    /// Floods what has no known destination on a VXLAN link to `peer` too.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn vxlan_peer(&self, name: &str, peer: IpAddr) -> Result<()> {
        use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST};
        use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
        use rtnetlink::packet_route::RouteNetlinkMessage;
        self.netlink(|mut netlink| async move {
            let index = index_of(&netlink, name).await?;
            let neighbours = netlink.neighbours();
            // The link's own table, not that of the bridge that it may be in.
            let request = neighbours.add_bridge(index, &[0; 6]).flags(NeighbourFlags::Own);
            let mut request = request.destination(peer);
            let message = request.message_mut().clone();
            // One more destination beside those of the same address: append, not replace.
            let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message));
            message.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND;
            let mut answers = netlink.request(message)?;
            while let Some(answer) = futures::StreamExt::next(&mut answers).await {
                if let NetlinkPayload::Error(error) = answer.payload
                    && error.code.is_some()
                {
                    return Err(anyhow!("{peer} as a peer of {name}: {error}"));
                }
            }
            Ok(())
        })
    }

    /// Sets a link up or down.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn set_link(&self, name: &str, state: LinkState) -> Result<()> {
        self.netlink(|netlink| async move {
            let index = index_of(&netlink, name).await?;
            let link = LinkUnspec::new_with_index(index);
            let link = if state == LinkState::Up { link.up() } else { link.down() };
            Ok(netlink.link().set(link.build()).execute().await?)
        })
    }

    /// Removes a link, and the other end of a cable with it. Nothing happens without one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_link(&self, name: &str) -> Result<()> {
        self.netlink(|netlink| async move {
            match index_of(&netlink, name).await {
                Ok(index) => Ok(netlink.link().del(index).execute().await?),
                Err(_) => Ok(()),
            }
        })
    }

    /// The names of all links but `lo`.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn link_names(&self) -> Result<Vec<String>> {
        self.netlink(|netlink| async move {
            let links: Vec<_> = netlink.link().get().execute().try_collect().await?;
            let names = links.into_iter().filter_map(|link| {
                link.attributes.into_iter().find_map(|attribute| match attribute {
                    LinkAttribute::IfName(name) if name != "lo" => Some(name),
                    _ => None,
                })
            });
            Ok(names.collect())
        })
    }

    /// The hardware address of a link.
    ///
    /// # Errors
    /// When there is no such link, or it has none.
    pub fn mac(&self, name: &str) -> Result<[u8; 6]> {
        self.netlink(|netlink| async move {
            let link =
                netlink.link().get().match_name(name.to_owned()).execute().try_next().await?;
            let mac = link.into_iter().flat_map(|link| link.attributes).find_map(|attribute| {
                match attribute {
                    LinkAttribute::Address(mac) => mac.try_into().ok(),
                    _ => None,
                }
            });
            mac.ok_or_else(|| anyhow!("{name} has no hardware address"))
        })
    }

    /// Gives a link its addresses, usable at once, and a hardware address made of them, so that a
    /// machine has it again after a reboot.
    ///
    /// # Errors
    /// When they are there already, or there is no such link.
    pub fn configure_link(&self, link: &str, v4: Ipv4Net, v6: Ipv6Net) -> Result<()> {
        let [a, b, c, d] = v4.addr().octets();
        self.netlink(|netlink| async move {
            let index = index_of(&netlink, link).await?;
            let message = LinkUnspec::new_with_index(index).address(vec![2, 0, a, b, c, d]);
            Ok(netlink.link().set(message.build()).execute().await?)
        })
        .with_context(|| format!("the hardware address of {link}"))?;
        self.add_address(link, v4.into())?;
        self.add_address(link, v6.into())
    }

    /// Adds an address, usable at once.
    ///
    /// # Errors
    /// When it is there already, or there is no such link.
    pub fn add_address(&self, link: &str, address: IpNet) -> Result<()> {
        self.netlink(|netlink| async move {
            let index = index_of(&netlink, link).await?;
            let mut request = netlink.address().add(index, address.addr(), address.prefix_len());
            request.message_mut().header.flags = AddressHeaderFlags::Nodad;
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            Ok(request.execute().await?)
        })
        .with_context(|| format!("{address} on {link}"))
    }

    /// Takes an address away.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove_address(&self, address: IpAddr) -> Result<()> {
        self.netlink(|netlink| async move {
            let all: Vec<_> = netlink.address().get().execute().try_collect().await?;
            let found = all.into_iter().find(|message| address_of(message) == Some(address));
            let found = found.ok_or_else(|| anyhow!("{address} is not here"))?;
            Ok(netlink.address().del(found).execute().await?)
        })
    }

    /// All addresses.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        self.netlink(|netlink| async move {
            let all: Vec<_> = netlink.address().get().execute().try_collect().await?;
            Ok(all.iter().filter_map(address_of).collect())
        })
    }

    /// Adds a route to `to`, by a gateway or straight onto a link.
    ///
    /// # Errors
    /// When the gateway cannot be reached or there is no such link.
    pub fn add_route(&self, to: IpNet, via: Via<'_>) -> Result<()> {
        self.netlink(|netlink| async move {
            let message = match via {
                Via::Gateway(gateway) => {
                    route(to)?.gateway(gateway).map_err(|e| anyhow!("{e}"))?.build()
                }
                Via::Link { name, metric } => {
                    let index = index_of(&netlink, name).await?;
                    route(to)?.output_interface(index).priority(metric).build()
                }
            };
            Ok(netlink.route().add(message).execute().await?)
        })
        .with_context(|| format!("route to {to}"))
    }

    /// The hardware address that it believes a neighbour to have.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn neighbour(&self, address: IpAddr) -> Result<Option<[u8; 6]>> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let neighbours: Vec<_> = self.netlink(|netlink| async move {
            let request = netlink.neighbours().get().set_address_family(family);
            Ok(request.execute().try_collect().await?)
        })?;
        let of_address = neighbours.into_iter().map(|message| message.attributes).find(|all| {
            all.iter().any(|one| match one {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address == *ip,
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address == *ip,
                _ => false,
            })
        });
        Ok(of_address.into_iter().flatten().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => mac.try_into().ok(),
            _ => None,
        }))
    }

    /// Adds a permanent neighbour.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn add_neighbour(&self, link: &str, address: IpAddr, mac: [u8; 6]) -> Result<()> {
        self.add_neighbours(link, vec![(address, mac)])
    }

    /// Adds permanent neighbours.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn add_neighbours(&self, link: &str, neighbours: Vec<(IpAddr, [u8; 6])>) -> Result<()> {
        self.netlink(|netlink| async move {
            let index = index_of(&netlink, link).await?;
            for (address, mac) in neighbours {
                let request = netlink.neighbours().add(index, address).link_layer_address(&mac);
                request.state(NeighbourState::Permanent).replace().execute().await?;
            }
            Ok(())
        })
    }
}

/// Where a route leads.
#[derive(Clone, Copy, Debug)]
pub enum Via<'a> {
    /// To a router.
    Gateway(IpAddr),
    /// Onto a link.
    Link {
        /// Its name.
        name: &'a str,
        /// The lower, the better.
        metric: u32,
    },
}

/// The address that a message is about.
pub(crate) fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let find =
        |pick: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(pick);
    // Of a point-to-point link, `Address` is the far end's.
    find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    })
    .or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn route(to: IpNet) -> Result<RouteMessageBuilder<IpAddr>> {
    RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(to.addr(), to.prefix_len())
        .map_err(|error| anyhow!("{error}"))
}

async fn index_of(netlink: &Handle, name: &str) -> Result<u32> {
    let mut links = netlink.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await.with_context(|| format!("link {name}"))?;
    Ok(link.ok_or_else(|| anyhow!("there is no link {name}"))?.header.index)
}
