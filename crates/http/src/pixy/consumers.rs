//! `GET /topics/<t>/consumers` (contract, section 3.6).

use crate::parameters::refused;
use crate::reply::{self, Reply};
use crate::service::Call;
use barnabas_engine::sarama_text_of;
use hyper::StatusCode;
use std::collections::BTreeMap;

pub(super) async fn run(call: &Call<'_>) -> Result<Reply, Box<Reply>> {
    let topic = call.topic;
    let group = match call.parameters.has("group") {
        true => Some(call.parameters.group()?),
        false => None,
    };
    let groups = match call.proxy.admin.group_members(group.as_deref()).await {
        Ok(groups) => groups,
        Err(error) => {
            let text = sarama_text_of(&error);
            return Ok(reply::error(StatusCode::INTERNAL_SERVER_ERROR, text));
        }
    };
    if let Some(group) = group {
        let found = groups.iter().find(|found| found.group == group);
        match found.filter(|found| !found.members.is_empty()) {
            None => return Err(refused(format!("unknown consumer group {group}"))),
            Some(found) if !found.subscribes_to(topic) => {
                return Err(refused(format!("topic {topic} is not consumed by {group}")));
            }
            Some(_) => {}
        }
    }
    let shown: BTreeMap<&str, BTreeMap<&str, Vec<i32>>> = groups
        .iter()
        .map(|group| (group.group.as_str(), group.consumers_of(topic)))
        .filter(|(_, consumers)| !consumers.is_empty())
        .collect();
    Ok(reply::json(StatusCode::OK, &shown))
}
