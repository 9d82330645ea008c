//! Asks a running agent for its state, and ends it.

use crate::{
    agent::{AgentStatus, RELOAD_TOPIC, STATUS_TOPIC, STOP_TOPIC},
    error::{Exit, Failure, FailureKind},
    mqtt::codec::{Publish, QoS},
    net::client::{Client, ClientEvent},
    run::{connection_settings::ConnectionSettings, runtime::block_on},
};

/// Prints the agent's state. Returns 0 if it is connected, 3 if not.
///
/// # Errors
/// An agent that does not answer.
#[allow(clippy::print_stdout, reason = "it is the result")]
pub fn status(settings: ConnectionSettings, as_json: bool) -> anyhow::Result<Exit> {
    let status = block_on(async { Ok(read(settings).await?) })?;
    if as_json {
        println!("{}", status.encode());
    } else {
        print!("{}", table(&status));
    }
    Ok(if status.connected { Exit::SUCCESS } else { Exit::CONNECTION })
}

/// Ends the agent, and waits until it has gone.
///
/// # Errors
/// An agent that does not answer.
pub fn stop(settings: ConnectionSettings) -> anyhow::Result<Exit> {
    block_on(async {
        let mut client = ask(settings, STOP_TOPIC).await?;
        // The agent closes the socket when it ends.
        while client.next().await.is_ok_and(|event| !matches!(event, ClientEvent::Lost { .. })) {}
        Ok(Exit::SUCCESS)
    })
}

/// Makes the agent read its files again.
///
/// # Errors
/// An agent that does not answer.
pub fn reload(settings: ConnectionSettings) -> anyhow::Result<Exit> {
    block_on(async {
        ask(settings, RELOAD_TOPIC).await?.close().await;
        Ok(Exit::SUCCESS)
    })
}

async fn read(mut settings: ConnectionSettings) -> Result<AgentStatus, Failure> {
    settings.client.reconnect = false;
    let mut client = Client::new(settings.client, vec![(STATUS_TOPIC.to_owned(), QoS::AtMostOnce)]);
    loop {
        if let ClientEvent::Message(message, _) = client.next().await?
            && *message.topic == *STATUS_TOPIC
        {
            let status = AgentStatus::decode(&message.payload);
            client.close().await;
            return status.map_err(|why| {
                Failure::new(FailureKind::Protocol, format!("the agent's state is not understood: {why}"))
            });
        }
    }
}

/// Publishes an empty message to a topic of the agent's, and waits for its acknowledgement.
async fn ask(mut settings: ConnectionSettings, topic: &str) -> Result<Client, Failure> {
    settings.client.reconnect = false;
    let mut client = Client::new(settings.client, Vec::new());
    let publish =
        Publish { topic: topic.into(), payload: bytes::Bytes::new(), qos: QoS::AtLeastOnce, retain: false };
    while !matches!(client.next().await?, ClientEvent::Ready { .. }) {}
    client.publish(publish, 0).map_err(|why| Failure::invalid(why.to_string()))?;
    while !matches!(client.next().await?, ClientEvent::Delivered { .. }) {}
    Ok(client)
}

fn table(status: &AgentStatus) -> String {
    let connection = if status.connected { "connected" } else { "not connected" };
    let mut lines = vec![
        ("gateway", status.gateway_id.clone()),
        ("broker", format!("{} as {}", status.broker, status.username)),
        ("connection", format!("{connection} since {}, {} reconnects", status.since, status.reconnects)),
    ];
    if !status.connected && !status.reason.is_empty() {
        lines.push(("reason", status.reason.clone()));
    }
    lines.push(("programs", format!("{}, {} messages open", status.clients, status.queue)));
    let answering = match status.answering.as_str() {
        "" => "no one",
        "client" => "a program",
        other => other,
    };
    lines.push(("commands", format!("answered by {answering}")));
    if let Some(spool) = &status.spool {
        lines.push((
            "spool",
            format!(
                "{} messages, {} of {} bytes, {} delivered, {} refused",
                spool.messages, spool.bytes, spool.max_bytes, spool.delivered, spool.refused
            ),
        ));
    }
    let codes: Vec<_> = status.codes.iter().map(|(code, count)| format!("{code}: {count}")).collect();
    if !codes.is_empty() {
        lines.push(("answers", format!("{}; the last at {}", codes.join(", "), status.last_answer)));
    }
    lines.push(("version", format!("{}, process {}", status.version, status.pid)));
    lines.into_iter().fold(String::new(), |table, (name, value)| format!("{table}{name:<12}{value}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_why_there_is_no_connection() {
        let status =
            AgentStatus { reason: "port closed".into(), gateway_id: "gw1".into(), ..AgentStatus::default() };
        let table = table(&status);
        assert!(table.contains("gateway     gw1\n"), "{table}");
        assert!(table.contains("connection  not connected since"), "{table}");
        assert!(table.contains("reason      port closed\n"), "{table}");
        assert!(table.contains("answered by no one"), "{table}");
    }
}
