//! Who may talk to the brokers: rights that are taken away and given back (ACLs), and the
//! certificate that brokers show.

use std::ffi::{CStr, CString};
use std::ptr;

use rdkafka::bindings::{
    self as native, rd_kafka_AclOperation_t as OperationType,
    rd_kafka_AclPermissionType_t as PermissionType,
};
use rdkafka::error::{IsError as _, KafkaError};

use crate::builder::KEYSTORE;
use crate::client::REQUEST_TIMEOUT;
use crate::cluster::Cluster;
use crate::error::{Context, Result};

/// What somebody may or may not do to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Produce.
    Write,
    /// Consume, and commit what was consumed.
    Read,
}

impl Cluster {
    /// Takes a right to a topic away from a user ([`crate::ClusterBuilder::sasl`]), who may do
    /// everything otherwise. Connections stay; brokers learn of it one after the other.
    ///
    /// # Errors
    /// The cluster was not started with [`crate::ClusterBuilder::access_control`], or does
    /// not answer.
    pub fn deny(&self, user: &str, operation: Operation, topic: &str) -> Result<()> {
        self.change(user, operation, topic, true)
    }

    /// Gives back what [`Cluster::deny`] has taken away.
    ///
    /// # Errors
    /// As of that.
    pub fn allow(&self, user: &str, operation: Operation, topic: &str) -> Result<()> {
        self.change(user, operation, topic, false)
    }

    /// Lets all brokers read the file of [`crate::ClusterBuilder::tls`] again, which must have another
    /// certificate now. Connections stay.
    ///
    /// # Errors
    /// Kafka's tool fails, or a broker refuses what is in the file.
    pub fn reload_certificate(&self) -> Result<()> {
        let running = self.running();
        let setting = running.property(KEYSTORE).unwrap_or_default();
        let setting = format!("{KEYSTORE}={setting}");
        for broker in self.brokers() {
            running.configure(&[
                "--alter",
                "--entity-type",
                "brokers",
                "--entity-name",
                &broker.id().to_string(),
                "--add-config",
                &setting,
            ])?;
        }
        Ok(())
    }

    fn change(&self, user: &str, operation: Operation, topic: &str, denies: bool) -> Result<()> {
        let action = || format!("change what {user} may do to {topic}");
        let text = |text: &str| CString::new(text).map_err(KafkaError::Nul);
        let mut rule = Rule {
            topic: text(topic).context(action)?,
            principal: text(&format!("User:{user}")).context(action)?,
            operation: OperationType::RD_KAFKA_ACL_OPERATION_ALL,
            permission: PermissionType::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
        };
        let admin = self.running().admin()?;
        let client = admin.inner().native_ptr();
        if denies {
            // Where a topic has any rule, what none of them allows is denied.
            rule.change(client, true).context(action)?;
        }
        rule.operation = match operation {
            Operation::Write => OperationType::RD_KAFKA_ACL_OPERATION_WRITE,
            Operation::Read => OperationType::RD_KAFKA_ACL_OPERATION_READ,
        };
        rule.permission = PermissionType::RD_KAFKA_ACL_PERMISSION_TYPE_DENY;
        rule.change(client, denies).context(action)
    }
}

struct Rule {
    topic: CString,
    principal: CString,
    operation: OperationType,
    permission: PermissionType,
}

impl Rule {
    /// Makes it, or deletes it.
    #[allow(
        unsafe_code,
        reason = "rdkafka's admin client has no call for ACLs; librdkafka has"
    )]
    fn change(&self, client: *mut native::rd_kafka_t, is_made: bool) -> Result<(), KafkaError> {
        let describe = match is_made {
            true => native::rd_kafka_AclBinding_new,
            false => native::rd_kafka_AclBindingFilter_new,
        };
        let send = match is_made {
            true => native::rd_kafka_CreateAcls,
            false => native::rd_kafka_DeleteAcls,
        };
        let limit = REQUEST_TIMEOUT.as_millis().try_into().unwrap_or(i32::MAX);
        // SAFETY: the caller's admin client outlives the call. librdkafka copies the strings, whose
        // ends are marked, and the description. What it gives is asked before it is given back.
        unsafe {
            let mut rule = describe(
                native::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
                self.topic.as_ptr(),
                native::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_LITERAL,
                self.principal.as_ptr(),
                c"*".as_ptr(),
                self.operation,
                self.permission,
                ptr::null_mut(),
                0,
            );
            let queue = native::rd_kafka_queue_new(client);
            send(client, &raw mut rule, 1, ptr::null(), queue);
            let event = native::rd_kafka_queue_poll(queue, limit);
            let result = outcome(event);
            native::rd_kafka_event_destroy(event);
            native::rd_kafka_queue_destroy(queue);
            native::rd_kafka_AclBinding_destroy(rule);
            result
        }
    }
}

/// What became of one rule.
///
/// # Safety
/// The event is what librdkafka has answered, or null.
#[allow(unsafe_code, reason = "as above")]
unsafe fn outcome(event: *mut native::rd_kafka_event_t) -> Result<(), KafkaError> {
    let failed = |why: *const std::ffi::c_char| {
        // SAFETY: librdkafka's texts are strings that live as long as the event.
        let why = unsafe { CStr::from_ptr(why) };
        Err(KafkaError::AdminOpCreation(
            why.to_string_lossy().into_owned(),
        ))
    };
    if event.is_null() {
        return Err(KafkaError::AdminOpCreation("no answer".to_owned()));
    }
    // SAFETY: each list has as many entries as is said, and belongs to the event.
    unsafe {
        if native::rd_kafka_event_error(event).is_error() {
            return failed(native::rd_kafka_event_error_string(event));
        }
        let mut count = 0;
        let made = native::rd_kafka_event_CreateAcls_result(event);
        let deleted = native::rd_kafka_event_DeleteAcls_result(event);
        let mut error = ptr::null();
        if !made.is_null() {
            let results = native::rd_kafka_CreateAcls_result_acls(made, &raw mut count);
            if count > 0 {
                error = native::rd_kafka_acl_result_error(*results);
            }
        } else if !deleted.is_null() {
            let results = native::rd_kafka_DeleteAcls_result_responses(deleted, &raw mut count);
            if count > 0 {
                error = native::rd_kafka_DeleteAcls_result_response_error(*results);
            }
        }
        if error.is_null() {
            return Ok(());
        }
        failed(native::rd_kafka_error_string(error))
    }
}
