//! Every method of this server, from the descriptors of its services.

use std::collections::BTreeMap;

use anabranch_proto::FILE_DESCRIPTOR_SET;
use prost_reflect::{DescriptorError, DescriptorPool, MethodDescriptor};

/// What is known of a method without calling it.
#[derive(Clone, Debug)]
pub struct Method {
    /// `package.Service/Method`, the name it has in metrics and logs.
    pub name: &'static str,
    /// True when either side sends a stream.
    pub streams: bool,
    /// True for calls that ask after health: they are never turned away.
    pub health: bool,
    /// An operator's: it may wait until every server knows what it changes, and reads no target.
    pub(super) operates: bool,
    /// Its messages.
    pub descriptor: MethodDescriptor,
}

/// The methods of all services: ours, health and reflection.
#[derive(Clone, Debug)]
pub struct Methods {
    pool: DescriptorPool,
    by_name: BTreeMap<&'static str, Method>,
}

impl Methods {
    /// Reads the descriptors that were compiled in.
    ///
    /// # Errors
    /// When they do not fit together, which is a bug of the build.
    pub fn load() -> Result<Self, DescriptorError> {
        let mut pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET)?;
        pool.decode_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)?;
        pool.decode_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)?;
        pool.decode_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)?;
        let mut by_name = BTreeMap::new();
        for service in pool.services() {
            for descriptor in service.methods() {
                // Leaked once a process: names are labels of metrics for as long as it runs.
                let name: &'static str = format!("{}/{}", service.full_name(), descriptor.name()).leak();
                let method = Method {
                    name,
                    streams: descriptor.is_client_streaming() || descriptor.is_server_streaming(),
                    health: service.full_name() == "grpc.health.v1.Health",
                    operates: service.full_name() == "anabranch.admin.v1.AdminService",
                    descriptor,
                };
                by_name.insert(name, method);
            }
        }
        Ok(Self { pool, by_name })
    }

    /// The method of `package.Service/Method`, with or without a slash in front.
    pub fn find(&self, path: &str) -> Option<&Method> {
        self.by_name.get(path.trim_start_matches('/'))
    }

    /// Names of all methods.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.by_name.keys().copied()
    }

    /// Names of all services.
    pub fn services(&self) -> Vec<String> {
        self.pool
            .services()
            .map(|service| service.full_name().to_owned())
            .collect()
    }

    /// The descriptors.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_operators_calls_may_last() {
        let methods = Methods::load().unwrap();
        let operates = |name: &str| methods.find(name).unwrap().operates;
        assert!(operates("anabranch.admin.v1.AdminService/SealTimeSlices"));
        assert!(!operates(
            "anabranch.timeseries.v1.TimeSeriesService/ReadEventRecords"
        ));
        assert!(!operates(
            "anabranch.timeseries.v1.TimeSeriesService/WriteEventRecordsSync"
        ));
    }
}
