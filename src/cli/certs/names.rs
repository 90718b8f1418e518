//! What nodes are called: the names that stand in their certificates besides their own.

use std::net::IpAddr;

/// Where nodes are found in Kubernetes; from this follow the DNS names in their certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNames {
    /// `--namespace`.
    pub namespace: String,
    /// `--service`: the headless Service of the replicas.
    pub service: String,
    /// `--client-service`: the Service that clients use.
    pub client_service: String,
}

impl Default for ServiceNames {
    /// The names of the manifests in `k8s/` (design section 8).
    fn default() -> ServiceNames {
        ServiceNames {
            namespace: "default".into(),
            service: "raft-service".into(),
            client_service: "raft-client".into(),
        }
    }
}

impl ServiceNames {
    /// All a node is reached by: its pod's name in every form that resolves, both Services, and
    /// loopback for the probe and for a cluster on one machine; then what was given besides.
    pub(super) fn with_defaults(
        &self,
        name: &str,
        dns: &[String],
        ips: &[IpAddr],
    ) -> (Vec<String>, Vec<IpAddr>) {
        let namespace = &self.namespace;
        let in_cluster = |host: &str| {
            [
                host.to_string(),
                format!("{host}.{namespace}"),
                format!("{host}.{namespace}.svc"),
                format!("{host}.{namespace}.svc.cluster.local"),
            ]
        };
        let mut all_dns = vec![name.to_string()];
        all_dns.extend(in_cluster(&format!("{name}.{}", self.service)));
        all_dns.extend(in_cluster(&self.service));
        all_dns.extend(in_cluster(&self.client_service));
        all_dns.push("localhost".into());
        let mut all_ips =
            vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        for name in dns {
            if !all_dns.contains(name) {
                all_dns.push(name.clone());
            }
        }
        for ip in ips {
            if !all_ips.contains(ip) {
                all_ips.push(*ip);
            }
        }
        (all_dns, all_ips)
    }
}
