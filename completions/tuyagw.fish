# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_tuyagw_global_optspecs
    string join \n q/quiet h/help V/version
end

function __fish_tuyagw_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_tuyagw_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_tuyagw_using_subcommand
    set -l cmd (__fish_tuyagw_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c tuyagw -n "__fish_tuyagw_needs_command" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -s V -l version -d 'Print version'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "password" -d 'Derive the MQTT password from client id and username'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "sync" -d 'Synchronise (add or update) devices and wait for each answer'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "report" -d 'Report data points, one message each, and wait for each answer'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "status" -d 'Report devices online or offline'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "listen" -d 'Print arriving messages as records; answer commands; send uplinks from stdin'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "agent" -d 'Hold the gateway\'s connection, and share it among the programs of this machine'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "command" -d 'Send commands to devices, from the platform\'s side, and wait for each result'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "replay" -d 'Send a recording again, and compare the answers'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "convert" -d 'Turn recordings of other tools and packet captures into records, and records into CSV'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "tap" -d 'Record the traffic between gateways and an edge, as a proxy'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "inspect" -d 'Show the contents of a recording: a table, JSON, or a page with charts'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "edge" -d 'Run the embedded Edge Gateway emulator, alone or around a program'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "model" -d 'Show or check a product model'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "explain" -d 'Explain a code, and what to do about it'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "completions" -d 'Print a shell completion script'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -s g -l gateway-id -d 'The gateway\'s id' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -l raw -d 'Print the password alone, as on a terminal'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -s h -l help -d 'Print help'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l cid -d 'The device\'s id, unique within the gateway, such as its serial number' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l product-id -d 'The product\'s id on the platform' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l vendor-code -d 'The manufacturer\'s code' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l comm-type -d 'How the device talks to the gateway [default: mqtt]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l device-ip -d 'The device\'s IP address' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l mac-address -d 'The device\'s MAC address' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l device-name -d 'The device\'s name [default: the cid]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l device-desc -d 'A description' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l install-location -d 'The place of installation' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l device-server-id -d 'The device server\'s id' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l product-sub-type -d 'The product\'s sub-type' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l window -d 'Limit of requests in flight' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l rate -d 'Limit of messages per second or minute: 50/s, 30/m; retries and resends count, too' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l retries -d 'Retry a request up to N times after a system error (500) or a time-out, with the same request id' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l journal -d 'Record accepted requests in this file; the same command run again sends only the rest' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l summary -d 'Write counts, round-trip percentiles, duration and rate to this file as JSON' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l format -d 'Format of the input [default: by the file\'s name, else json]' -r -f -a "json\t'JSON Lines, a stream of JSON values, or JSON arrays'
csv\t'CSV with a header of the protocol\'s field names'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l t-unit -d 'Unit of the time stamp t in messages' -r -f -a "s\t'Seconds, as the protocol\'s samples have it'
ms\t'Milliseconds'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l progress -d 'Show progress on stderr' -r -f -a "auto\t'A bar if stderr is a terminal and there is more than one request'
always\t'A bar; if stderr is no terminal, a line every second'
never\t'Nothing'
json\t'JSON lines'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -s g -l gateway-id -d 'The gateway\'s id, which takes the place of {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l password-file -d 'File with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l agent -d 'Connect through the gateway\'s agent: auto (if one runs), never, require, or the PATH of its socket' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l tls-server-name -d 'Name that the broker\'s certificate must have [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml, else /etc/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l no-check -d 'Send each device\'s fields as given, without checks'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l ordered -d 'Print results in input order'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l journal-any-broker -d 'Accept a journal of another broker: requests that it accepted are not sent to this one'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l no-wait -d 'End a request with the broker\'s acknowledgement, without waiting for the answer'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l no-reconnect -d 'Exit on the first lost connection'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l tls-insecure -d 'Do not verify the broker\'s certificate; reaches RSA-1024 boxes, too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l cid -d 'The device' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l model -d 'Product model to check values against [default: the smart water meter]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l value-encoding -d 'Encode values as native JSON, or all of them as strings' -r -f -a "native\t'true, 12345, "opened"'
string\t'"true", "12345", "opened"'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l window -d 'Limit of requests in flight' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l rate -d 'Limit of messages per second or minute: 50/s, 30/m; retries and resends count, too' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l retries -d 'Retry a request up to N times after a system error (500) or a time-out, with the same request id' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l journal -d 'Record accepted requests in this file; the same command run again sends only the rest' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l summary -d 'Write counts, round-trip percentiles, duration and rate to this file as JSON' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l format -d 'Format of the input [default: by the file\'s name, else json]' -r -f -a "json\t'JSON Lines, a stream of JSON values, or JSON arrays'
csv\t'CSV with a header of the protocol\'s field names'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l t-unit -d 'Unit of the time stamp t in messages' -r -f -a "s\t'Seconds, as the protocol\'s samples have it'
ms\t'Milliseconds'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l progress -d 'Show progress on stderr' -r -f -a "auto\t'A bar if stderr is a terminal and there is more than one request'
always\t'A bar; if stderr is no terminal, a line every second'
never\t'Nothing'
json\t'JSON lines'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l tls-server-name -d 'Name that the broker\'s certificate must have [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml, else /etc/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -s g -l gateway-id -d 'The gateway\'s id, which takes the place of {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l password-file -d 'File with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l agent -d 'Connect through the gateway\'s agent: auto (if one runs), never, require, or the PATH of its socket' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l no-check -d 'Do not check values for type, range, enumeration and access'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l ordered -d 'Print results in input order'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l journal-any-broker -d 'Accept a journal of another broker: requests that it accepted are not sent to this one'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l no-wait -d 'End a request with the broker\'s acknowledgement, without waiting for the answer'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l no-reconnect -d 'Exit on the first lost connection'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l tls-insecure -d 'Do not verify the broker\'s certificate; reaches RSA-1024 boxes, too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l queue -d 'Put the messages into the agent\'s spool, which sends them once the edge is there; do not wait for answers'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l online -d 'Online devices' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l offline -d 'Offline devices' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l every -d 'Stay connected and repeat the report at this interval, until a signal' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l window -d 'Limit of requests in flight' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l rate -d 'Limit of messages per second or minute: 50/s, 30/m; retries and resends count, too' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l retries -d 'Retry a request up to N times after a system error (500) or a time-out, with the same request id' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l journal -d 'Record accepted requests in this file; the same command run again sends only the rest' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l summary -d 'Write counts, round-trip percentiles, duration and rate to this file as JSON' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l format -d 'Format of the input [default: by the file\'s name, else json]' -r -f -a "json\t'JSON Lines, a stream of JSON values, or JSON arrays'
csv\t'CSV with a header of the protocol\'s field names'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l t-unit -d 'Unit of the time stamp t in messages' -r -f -a "s\t'Seconds, as the protocol\'s samples have it'
ms\t'Milliseconds'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l progress -d 'Show progress on stderr' -r -f -a "auto\t'A bar if stderr is a terminal and there is more than one request'
always\t'A bar; if stderr is no terminal, a line every second'
never\t'Nothing'
json\t'JSON lines'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -s g -l gateway-id -d 'The gateway\'s id, which takes the place of {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l password-file -d 'File with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l agent -d 'Connect through the gateway\'s agent: auto (if one runs), never, require, or the PATH of its socket' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l tls-server-name -d 'Name that the broker\'s certificate must have [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml, else /etc/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l offline-on-exit -d 'Stay connected until a signal, then report the online devices offline'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l ordered -d 'Print results in input order'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l journal-any-broker -d 'Accept a journal of another broker: requests that it accepted are not sent to this one'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l no-wait -d 'End a request with the broker\'s acknowledgement, without waiting for the answer'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l no-reconnect -d 'Exit on the first lost connection'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l queue -d 'Put the messages into the agent\'s spool, which sends them once the edge is there; do not wait for answers'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l tls-insecure -d 'Do not verify the broker\'s certificate; reaches RSA-1024 boxes, too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l topic -d 'Listen to this topic filter instead; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l kind -d 'Print and answer only messages of this kind, such as command; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l cid -d 'Print and answer only messages of this device; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l out -d 'Append the records to this file instead of printing them, synced to the disk before the acknowledgement' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l rotate -d 'Rename the file and begin a new one at this size (100MB) or after this time (1h)' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l count -d 'End after N records' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l for -d 'End after this time; with --count, fewer than N records are a time-out' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l answer -d 'Answer every command: success, or a result code with an optional message' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l exec -d 'Run PROGRAM with ARGS for each command, and answer by its exit status' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l exec-timeout -d 'Time limit for PROGRAM' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l devices -d 'File of known devices, JSON Lines with a cid each; commands to others are answered 2003' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l t-unit -d 'Unit of the time stamp t in messages' -r -f -a "s\t'Seconds, as the protocol\'s samples have it'
ms\t'Milliseconds'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l model -d 'Product model to check values against [default: the smart water meter]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l value-encoding -d 'Encode values as native JSON, or all of them as strings' -r -f -a "native\t'true, 12345, "opened"'
string\t'"true", "12345", "opened"'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -s g -l gateway-id -d 'The gateway\'s id, which takes the place of {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l password-file -d 'File with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l agent -d 'Connect through the gateway\'s agent: auto (if one runs), never, require, or the PATH of its socket' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l tls-server-name -d 'Name that the broker\'s certificate must have [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml, else /etc/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l all -d 'Listen to all topics of the gateway, uplinks included [default: the three downlink topics]'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l no-reconnect -d 'Exit on the first lost connection'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l no-report-back -d 'Do not report the new value after a successful command'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l stdin -d 'Send uplinks from stdin: input lines of sync, report and status, each with its "op"'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l no-check -d 'Do not check values for type, range, enumeration and access'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l tls-insecure -d 'Do not verify the broker\'s certificate; reaches RSA-1024 boxes, too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l answer -d 'Answer every command: success, or a result code with an optional message' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l exec -d 'Run PROGRAM for each command and answer by its exit status, as listen does' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l exec-timeout -d 'Time for PROGRAM' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l devices -d 'The devices that exist, JSON Lines with a cid each; commands to others are answered 2003' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l out -d 'Append the records to this file instead of printing them; each is on the disk before it is acknowledged' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l rotate -d 'Put the file aside and begin a new one beyond this size (100MB) or after this time (1h)' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l topic -d 'Subscribe to this topic filter instead; may be given several times' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l status-every -d 'Say at this interval that the devices are online' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l socket -d 'The socket [default: one named after broker and gateway, in the first of $XDG_RUNTIME_DIR/tuyagw, /run/user/UID/tuyagw, /run/tuyagw and /tmp/tuyagw-UID]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l socket-group -d 'Let programs of this group use the socket, too' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l idle-exit -d 'End after this time without a program and without messages' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l t-unit -d 'The unit of the time stamp t in messages' -r -f -a "s\t'Seconds, as the protocol\'s samples have it'
ms\t'Milliseconds'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l spool -d 'Keep queued messages in this folder until the edge has them' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l spool-max -d 'The most that the folder may hold: 500MB, 2GB' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l spool-rate -d 'The rate at which queued messages are sent: 10/s' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l spool-results -d 'Append the result of each queued message to this file' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l model -d 'Product model to check values against [default: the smart water meter]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l value-encoding -d 'Encode values as native JSON, or all of them as strings' -r -f -a "native\t'true, 12345, "opened"'
string\t'"true", "12345", "opened"'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -s g -l gateway-id -d 'The gateway\'s id, which takes the place of {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l password-file -d 'File with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l tls-server-name -d 'Name that the broker\'s certificate must have [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l no-report-back -d 'Do not report the new value after a successful command'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l all -d 'Subscribe to all topics of the gateway, uplinks included'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l status-all -d 'Say it of devices that are synchronised through the agent, too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l offline-on-exit -d 'Say that the devices are offline at the end; the will says it if the connection is cut'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l no-check -d 'Do not check values for type, range, enumeration and access'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l tls-insecure -d 'Do not verify the broker\'s certificate; reaches RSA-1024 boxes, too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -f -a "status" -d 'Say what the agent does; exit 0 if it is connected, 3 if not, 2 without an agent'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -f -a "stop" -d 'End the agent; exit 2 without one'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and not __fish_seen_subcommand_from status stop reload" -f -a "reload" -d 'Read the devices again'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l socket -d 'The agent\'s socket [default: the one of broker and gateway]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -s g -l gateway-id -d 'The gateway\'s id, which takes the place of {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l password-file -d 'File with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l tls-server-name -d 'Name that the broker\'s certificate must have [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l json -d 'Print the state as JSON'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l tls-insecure -d 'Do not verify the broker\'s certificate; reaches RSA-1024 boxes, too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l socket -d 'The agent\'s socket [default: the one of broker and gateway]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -s g -l gateway-id -d 'The gateway\'s id, which takes the place of {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l password-file -d 'File with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l tls-server-name -d 'Name that the broker\'s certificate must have [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l json -d 'Print the state as JSON'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l tls-insecure -d 'Do not verify the broker\'s certificate; reaches RSA-1024 boxes, too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l socket -d 'The agent\'s socket [default: the one of broker and gateway]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -s g -l gateway-id -d 'The gateway\'s id, which takes the place of {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l password-file -d 'File with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l tls-server-name -d 'Name that the broker\'s certificate must have [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l json -d 'Print the state as JSON'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l tls-insecure -d 'Do not verify the broker\'s certificate; reaches RSA-1024 boxes, too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand agent; and __fish_seen_subcommand_from reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l cid -d 'The device' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l model -d 'Product model to check values against [default: the smart water meter]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l value-encoding -d 'Encode values as native JSON, or all of them as strings' -r -f -a "native\t'true, 12345, "opened"'
string\t'"true", "12345", "opened"'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l window -d 'Limit of requests in flight' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l rate -d 'Limit of messages per second or minute: 50/s, 30/m; retries and resends count, too' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l retries -d 'Retry a request up to N times after a system error (500) or a time-out, with the same request id' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l journal -d 'Record accepted requests in this file; the same command run again sends only the rest' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l summary -d 'Write counts, round-trip percentiles, duration and rate to this file as JSON' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l format -d 'Format of the input [default: by the file\'s name, else json]' -r -f -a "json\t'JSON Lines, a stream of JSON values, or JSON arrays'
csv\t'CSV with a header of the protocol\'s field names'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l t-unit -d 'Unit of the time stamp t in messages' -r -f -a "s\t'Seconds, as the protocol\'s samples have it'
ms\t'Milliseconds'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l progress -d 'Show progress on stderr' -r -f -a "auto\t'A bar if stderr is a terminal and there is more than one request'
always\t'A bar; if stderr is no terminal, a line every second'
never\t'Nothing'
json\t'JSON lines'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l tls-server-name -d 'Name that the broker\'s certificate must have [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml, else /etc/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l platform-username -d 'The platform user\'s name [default: platform]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l platform-password-file -d 'File with the platform user\'s password [default: TUYAGW_PLATFORM_PASSWORD, else derived]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l client-id -d 'The MQTT client id [default: a random one]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -s g -l gateway-id -d 'The gateway to command, if the input does not name one' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l no-check -d 'Do not check values for type, range, enumeration and access'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l ordered -d 'Print results in input order'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l journal-any-broker -d 'Accept a journal of another broker: requests that it accepted are not sent to this one'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l no-wait -d 'End a request with the broker\'s acknowledgement, without waiting for the answer'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l no-reconnect -d 'Exit on the first lost connection'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l tls-insecure -d 'Do not verify the broker\'s certificate; reaches RSA-1024 boxes, too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l speed -d 'Speed as a multiple of the recorded one, or max' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l rate -d 'Send at this rate instead: 500/s, or 30/m' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l loop -d 'Replay the recording N times' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l max-gap -d 'Shorten longer pauses of the recording to this' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l from -d 'Begin at a time (2026-11-22T07:22:00Z) or an offset (10m)' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l to -d 'End before a time or an offset' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l kind -d 'Send only messages of this kind; repeatable or with commas' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l cid -d 'Send only messages of this device; repeatable or with commas' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l topic -d 'Send only messages whose topic matches; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l map-gateway -d 'Replace a gateway\'s id; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l map-cid -d 'Replace a device\'s cid; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l direction -d 'Take the part of the gateways (up) or, with --listen, of the edge (down)' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l listen -d 'Address to listen on, with --direction down; port 0 picks a free one' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l mqtt-port -d 'Another port of MQTT in a capture, beside 21883, 1883 and 8883; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -s g -l gateway-id -d 'The gateway\'s id, which takes the place of {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l password-file -d 'File with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l tls-server-name -d 'Name that the broker\'s certificate must have [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml, else /etc/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l keep-t -d 'Keep the recorded time stamps'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l keep-ids -d 'Keep the recorded request ids'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l verify -d 'Compare each answer\'s code with the recorded one'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l no-reconnect -d 'Exit on the first lost connection'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l dry-run -d 'Print what would be sent, and how long that takes, as JSON'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l payload-base64 -d 'Payloads of a CSV recording are base64 (mqtt_recorder\'s --encode_b64)'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l tls-insecure -d 'Do not verify the broker\'s certificate; reaches RSA-1024 boxes, too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -l to -d 'Format of the output on stdout' -r -f -a "records\t'One record a line'
csv\t'CSV with a header, one row a message'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml, else /etc/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -l mqtt-port -d 'Another port of MQTT in a capture, beside 21883, 1883 and 8883; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -l payload-base64 -d 'Payloads of a CSV recording are base64 (mqtt_recorder\'s --encode_b64)'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l listen -d 'Address to listen on; port 0 picks a free one' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l tls-cert -d 'Speak TLS to clients with this certificate chain (PEM)' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l tls-key -d 'Private key of the certificate (PEM)' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l out -d 'Append the records to this file, synced to the disk, instead of printing them' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l summary -d 'Write the summary to this file as JSON, as `inspect --json` prints it' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l for -d 'End after this time' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l tls-server-name -d 'Name that the broker\'s certificate must have [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml, else /etc/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l tls-insecure -d 'Do not verify the broker\'s certificate; reaches RSA-1024 boxes, too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l html -d 'Write a page with charts to this file' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l model -d 'Product model for names, units and scales [default: the smart water meter]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml, else /etc/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l mqtt-port -d 'Another port of MQTT in a capture, beside 21883, 1883 and 8883; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l json -d 'Print JSON, on a terminal too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l payload-base64 -d 'Payloads of a CSV recording are base64 (mqtt_recorder\'s --encode_b64)'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l listen -d 'Address to listen on; port 0 picks a free one [default: 127.0.0.1:21883, with PROGRAM 127.0.0.1:0]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l username -d 'Username of gateways; repeatable [default: any, if the password is right]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l platform-username -d 'Username of platform users, who may use every topic; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l model -d 'Product model of the devices [default: the smart water meter]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l devices -d 'Keep synchronised devices in this file, synced to the disk before a sync is answered' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l out -d 'Append the records to this file instead of printing them' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l tls-cert -d 'Speak TLS with this certificate chain (PEM)' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l tls-key -d 'Private key of the certificate (PEM)' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-skew -d 'Refuse messages whose time stamp differs more from the clock, with 1001' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l offline-after -d 'Consider a device offline after this long without a sync or status' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l command-timeout -d 'Time for a gateway to answer a command from stdin; at most 20 are in flight to one gateway' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l fault -d 'Misbehave as described below; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l seed -d 'Seed of the faults\' random numbers [default: a random one, which is printed]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-connections -d 'Most connections; further ones are closed' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-packet -d 'Largest packet that a client may send, in bytes' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-in-flight -d 'Most unacknowledged messages to one client' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-queue -d 'Most bytes queued for one client, which is disconnected beyond; QoS 0 is dropped beyond 1 MiB' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-queues -d 'Most bytes kept for all clients together: queued, unread and unacknowledged messages, subscriptions, names and wills; beyond, the clients with most are disconnected' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-retained -d 'Most bytes of retained messages; beyond, no further one is kept' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-subscriptions -d 'Most subscriptions of one client; further ones are refused' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l session-expiry -d 'How long to keep the persistent session of a disconnected client' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l connect-timeout -d 'Time for a client to send CONNECT, TLS handshake included' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand model" -l model -d 'Product model to show [default: the smart water meter]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand model" -l dp-map -d 'DP ids of codes, for a model without ids' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand model" -l json -d 'Print JSON, on a terminal too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand model" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand model" -s h -l help -d 'Print help'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand explain" -l json -d 'Print JSON Lines, as in a pipe'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand explain" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand explain" -s h -l help -d 'Print help'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand completions" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand completions" -s h -l help -d 'Print help'
