//! A librdkafka configuration under construction, and the table of the
//! properties that librdkafka knows.

use super::client::component_of;
use super::text;
use rdkafka::bindings as sys;
use std::ffi::{CString, c_char, c_int};
use std::ptr::NonNull;
use std::sync::OnceLock;

/// What a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Producer,
    Consumer,
}

/// Owns an `rd_kafka_conf_t` until a client takes it.
pub(crate) struct Conf {
    pub(super) pointer: NonNull<sys::rd_kafka_conf_t>,
}

impl Conf {
    pub(crate) fn new() -> Self {
        // SAFETY: no preconditions. librdkafka aborts on out-of-memory.
        let pointer = unsafe { sys::rd_kafka_conf_new() };
        let Some(pointer) = NonNull::new(pointer) else {
            // `rd_kafka_conf_new` never answers null: it allocates through
            // `rd_calloc`, which asserts.
            std::process::abort()
        };
        // SAFETY: `pointer` is the configuration just made; the callback is a
        // plain function that lives for ever.
        unsafe { sys::rd_kafka_conf_set_log_cb(pointer.as_ptr(), Some(log)) };
        Self { pointer }
    }

    /// Sets one property; the error is librdkafka's sentence.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let (Ok(c_name), Ok(c_value)) = (CString::new(name), CString::new(value)) else {
            return Err("holds a NUL byte".to_owned());
        };
        let mut reason: [c_char; 512] = [0; 512];
        // SAFETY: all pointers are valid for the call; the size is that of
        // the buffer.
        let result = unsafe {
            sys::rd_kafka_conf_set(
                self.pointer.as_ptr(),
                c_name.as_ptr(),
                c_value.as_ptr(),
                reason.as_mut_ptr(),
                reason.len(),
            )
        };
        match result {
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            _ => Err(text(reason.as_ptr())),
        }
    }

    /// Which kinds of events come through the queue instead of callbacks.
    pub(crate) fn set_events(&mut self, events: c_int) {
        // SAFETY: the pointer is owned and alive.
        unsafe { sys::rd_kafka_conf_set_events(self.pointer.as_ptr(), events) };
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: owned; a client that takes the configuration forgets it.
        unsafe { sys::rd_kafka_conf_destroy(self.pointer.as_ptr()) };
    }
}

/// librdkafka's log lines become `tracing` events of the target `librdkafka`.
unsafe extern "C" fn log(
    client: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    // SAFETY: librdkafka calls this with a live client, made by `Client::new`.
    let component = unsafe { component_of(client) };
    let (facility, line) = (text(facility), text(line));
    if let Some(target) = component.and_then(|component| component.log.as_ref()) {
        target.line(level, &facility, &line);
        return;
    }
    let component = component.map_or("", |component| &component.name);
    // syslog levels: 0 to 3 are errors, 4 warnings, 5 and 6 information.
    if facility == "FAIL" && level <= 3 {
        // An error event says the same (`rd_kafka_broker_set_error`), whatever
        // `log_level` is; see `News`.
        return;
    }
    match level {
        0..=3 => tracing::error!(target: "librdkafka", component, facility, "{line}"),
        4 => tracing::warn!(target: "librdkafka", component, facility, "{line}"),
        5 | 6 => tracing::info!(target: "librdkafka", component, facility, "{line}"),
        _ => tracing::debug!(target: "librdkafka", component, facility, "{line}"),
    }
}

/// One row of librdkafka's own table of properties.
#[derive(Debug, Clone)]
pub(crate) struct PropertyInfo {
    pub(crate) name: String,
    pub(crate) for_producer: bool,
    pub(crate) for_consumer: bool,
}

/// Every property of the linked librdkafka, read from the table that the
/// library prints, so that nothing here can drift from it.
pub(crate) fn known_properties() -> &'static [PropertyInfo] {
    static TABLE: OnceLock<Vec<PropertyInfo>> = OnceLock::new();
    TABLE.get_or_init(|| parse_table(&print_table()))
}

fn print_table() -> String {
    let mut buffer: *mut c_char = std::ptr::null_mut();
    let mut length: libc::size_t = 0;
    // SAFETY: `open_memstream` writes to both locals until `fclose`, after
    // which the buffer is ours to free.
    unsafe {
        let file = libc::open_memstream(&raw mut buffer, &raw mut length);
        if file.is_null() {
            return String::new();
        }
        sys::rd_kafka_conf_properties_show(file);
        libc::fclose(file);
        if buffer.is_null() {
            return String::new();
        }
        let table = text(buffer);
        libc::free(buffer.cast());
        table
    }
}

fn parse_table(table: &str) -> Vec<PropertyInfo> {
    let mut rows: Vec<PropertyInfo> = Vec::new();
    for line in table.lines() {
        let mut columns = line.split('|').map(str::trim);
        let (Some(name), Some(scope)) = (columns.next(), columns.next()) else {
            continue;
        };
        if name.is_empty() || name == "Property" || name.starts_with('-') {
            continue;
        }
        let (producer, consumer) = (scope != "C", scope != "P");
        match rows.iter_mut().find(|row| row.name == name) {
            // Listed both as global and as topic property.
            Some(row) => {
                row.for_producer |= producer;
                row.for_consumer |= consumer;
            }
            None => rows.push(PropertyInfo {
                name: name.to_owned(),
                for_producer: producer,
                for_consumer: consumer,
            }),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> PropertyInfo {
        known_properties()
            .iter()
            .find(|row| row.name == name)
            .unwrap_or_else(|| panic!("{name} is not in the table"))
            .clone()
    }

    #[test]
    fn the_table_knows_for_which_kind_of_client_a_property_is() {
        assert!(row("linger.ms").for_producer && !row("linger.ms").for_consumer);
        assert!(row("group.id").for_consumer && !row("group.id").for_producer);
        let both = row("bootstrap.servers");
        assert!(both.for_producer && both.for_consumer);
        // A topic property and an alias.
        assert!(row("auto.offset.reset").for_consumer);
        assert!(row("queue.buffering.max.ms").for_producer);
        assert!(known_properties().len() > 150);
    }

    #[test]
    fn a_refused_value_is_explained() {
        let mut conf = Conf::new();
        let reason = conf.set("statistics.interval.ms", "soon").unwrap_err();
        assert!(reason.contains("statistics.interval.ms"), "{reason}");
    }
}
