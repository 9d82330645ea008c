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
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -s u -l username -d 'The username, which Tuya provides' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -l raw -d 'Print the password alone, as on a terminal'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -s h -l help -d 'Print help'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l cid -d 'The device\'s id, unique under the gateway, such as its serial number' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l product-id -d 'The product\'s id on the platform' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l vendor-code -d 'The manufacturer\'s code' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l comm-type -d 'How the device talks to the gateway [default: mqtt]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l device-ip -d 'The device\'s IP address' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l mac-address -d 'The device\'s MAC address' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l device-name -d 'The device\'s name [default: the cid]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l device-desc -d 'A description' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l install-location -d 'Where it is installed' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l device-server-id -d 'The device server\'s id' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l product-sub-type -d 'The product\'s sub-type' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l window -d 'How many requests may be in flight' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l rate -d 'Send at most so many messages a second: 50/s, or 30/m; retries and what is sent again count too' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l retries -d 'Try a request again so many times after a system error (500) or a time-out, with its request id' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l journal -d 'Note what was accepted in this file, so that the same command run again sends only the rest' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l summary -d 'Write counts, round-trip percentiles, duration and rate to this file as JSON' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l format -d 'How the input is written [default: by the file\'s name, else json]' -r -f -a "json\t'JSON Lines, a stream of JSON values, or JSON arrays'
csv\t'CSV with a header of the protocol\'s field names'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l t-unit -d 'The unit of the time stamp t in messages' -r -f -a "s\t'Seconds, as the protocol\'s samples have it'
ms\t'Milliseconds'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l progress -d 'Show progress on stderr' -r -f -a "auto\t'A bar if stderr is a terminal and there is more than one request'
always\t'A bar; where stderr is no terminal, a line a second'
never\t'Nothing'
json\t'JSON lines'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -s g -l gateway-id -d 'The gateway\'s id, which fills {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l password-file -d 'A file with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l tls-server-name -d 'The name that the broker\'s certificate must carry [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l no-check -d 'Send each device\'s fields as given, unchecked'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l ordered -d 'Give the results in input order'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l journal-any-broker -d 'Take a journal that was begun at another broker: what that one accepted is not sent to this one'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l no-wait -d 'Be done at the broker\'s acknowledgement, without waiting for the answer'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l no-reconnect -d 'Exit on the first lost connection'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l tls-insecure -d 'Verify nothing of the broker\'s certificate; reaches RSA-1024 boxes too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand sync" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l cid -d 'The device' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l model -d 'The product model to check values against [default: the smart water meter]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l value-encoding -d 'Send values as native JSON, or all of them as strings' -r -f -a "native\t'true, 12345, "opened"'
string\t'"true", "12345", "opened"'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l window -d 'How many requests may be in flight' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l rate -d 'Send at most so many messages a second: 50/s, or 30/m; retries and what is sent again count too' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l retries -d 'Try a request again so many times after a system error (500) or a time-out, with its request id' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l journal -d 'Note what was accepted in this file, so that the same command run again sends only the rest' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l summary -d 'Write counts, round-trip percentiles, duration and rate to this file as JSON' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l format -d 'How the input is written [default: by the file\'s name, else json]' -r -f -a "json\t'JSON Lines, a stream of JSON values, or JSON arrays'
csv\t'CSV with a header of the protocol\'s field names'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l t-unit -d 'The unit of the time stamp t in messages' -r -f -a "s\t'Seconds, as the protocol\'s samples have it'
ms\t'Milliseconds'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l progress -d 'Show progress on stderr' -r -f -a "auto\t'A bar if stderr is a terminal and there is more than one request'
always\t'A bar; where stderr is no terminal, a line a second'
never\t'Nothing'
json\t'JSON lines'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l tls-server-name -d 'The name that the broker\'s certificate must carry [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -s g -l gateway-id -d 'The gateway\'s id, which fills {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l password-file -d 'A file with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l no-check -d 'Check no values: neither type nor range, enumeration or access'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l ordered -d 'Give the results in input order'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l journal-any-broker -d 'Take a journal that was begun at another broker: what that one accepted is not sent to this one'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l no-wait -d 'Be done at the broker\'s acknowledgement, without waiting for the answer'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l no-reconnect -d 'Exit on the first lost connection'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l tls-insecure -d 'Verify nothing of the broker\'s certificate; reaches RSA-1024 boxes too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l online -d 'Devices that are online' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l offline -d 'Devices that are offline' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l every -d 'Keep the connection and report all of them again at this interval, until a signal' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l window -d 'How many requests may be in flight' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l rate -d 'Send at most so many messages a second: 50/s, or 30/m; retries and what is sent again count too' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l retries -d 'Try a request again so many times after a system error (500) or a time-out, with its request id' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l journal -d 'Note what was accepted in this file, so that the same command run again sends only the rest' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l summary -d 'Write counts, round-trip percentiles, duration and rate to this file as JSON' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l format -d 'How the input is written [default: by the file\'s name, else json]' -r -f -a "json\t'JSON Lines, a stream of JSON values, or JSON arrays'
csv\t'CSV with a header of the protocol\'s field names'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l t-unit -d 'The unit of the time stamp t in messages' -r -f -a "s\t'Seconds, as the protocol\'s samples have it'
ms\t'Milliseconds'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l progress -d 'Show progress on stderr' -r -f -a "auto\t'A bar if stderr is a terminal and there is more than one request'
always\t'A bar; where stderr is no terminal, a line a second'
never\t'Nothing'
json\t'JSON lines'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -s g -l gateway-id -d 'The gateway\'s id, which fills {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l password-file -d 'A file with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l tls-server-name -d 'The name that the broker\'s certificate must carry [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l offline-on-exit -d 'Stay connected until a signal, then report the online devices offline'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l ordered -d 'Give the results in input order'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l journal-any-broker -d 'Take a journal that was begun at another broker: what that one accepted is not sent to this one'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l no-wait -d 'Be done at the broker\'s acknowledgement, without waiting for the answer'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l no-reconnect -d 'Exit on the first lost connection'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l tls-insecure -d 'Verify nothing of the broker\'s certificate; reaches RSA-1024 boxes too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l topic -d 'Listen to this topic filter instead; may be given several times' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l kind -d 'Print and answer only messages of this kind, such as command; may be given several times' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l cid -d 'Print and answer only messages of this device; may be given several times' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l out -d 'Append the records to this file instead of printing them; each is on the disk before it is acknowledged' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l rotate -d 'Put the file aside and begin a new one beyond this size (100MB) or after this time (1h)' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l count -d 'End after N records' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l for -d 'End after this time; with --count, fewer than N records are a time-out' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l answer -d 'Answer every command: success, or a result code with an optional message' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l exec -d 'Run PROGRAM for each command and answer by its exit status; what follows are its arguments' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l exec-timeout -d 'Time for PROGRAM' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l devices -d 'The devices that exist, JSON Lines with a cid each; commands to others are answered 2003' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l t-unit -d 'The unit of the time stamp t in messages' -r -f -a "s\t'Seconds, as the protocol\'s samples have it'
ms\t'Milliseconds'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l model -d 'The product model to check values against [default: the smart water meter]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l value-encoding -d 'Send values as native JSON, or all of them as strings' -r -f -a "native\t'true, 12345, "opened"'
string\t'"true", "12345", "opened"'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -s g -l gateway-id -d 'The gateway\'s id, which fills {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l password-file -d 'A file with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l tls-server-name -d 'The name that the broker\'s certificate must carry [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l all -d 'Listen to all topics of the gateway, uplinks included, not to the three downlink topics only'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l no-reconnect -d 'Exit on the first lost connection'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l no-report-back -d 'Do not report the new value after a successful command'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l stdin -d 'Send uplinks from stdin: lines as of sync, report and status, with their "op"'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l no-check -d 'Check no values: neither type nor range, enumeration or access'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l tls-insecure -d 'Verify nothing of the broker\'s certificate; reaches RSA-1024 boxes too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand listen" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l cid -d 'The device' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l model -d 'The product model to check values against [default: the smart water meter]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l value-encoding -d 'Send values as native JSON, or all of them as strings' -r -f -a "native\t'true, 12345, "opened"'
string\t'"true", "12345", "opened"'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l window -d 'How many requests may be in flight' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l rate -d 'Send at most so many messages a second: 50/s, or 30/m; retries and what is sent again count too' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l retries -d 'Try a request again so many times after a system error (500) or a time-out, with its request id' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l journal -d 'Note what was accepted in this file, so that the same command run again sends only the rest' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l summary -d 'Write counts, round-trip percentiles, duration and rate to this file as JSON' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l format -d 'How the input is written [default: by the file\'s name, else json]' -r -f -a "json\t'JSON Lines, a stream of JSON values, or JSON arrays'
csv\t'CSV with a header of the protocol\'s field names'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l t-unit -d 'The unit of the time stamp t in messages' -r -f -a "s\t'Seconds, as the protocol\'s samples have it'
ms\t'Milliseconds'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l progress -d 'Show progress on stderr' -r -f -a "auto\t'A bar if stderr is a terminal and there is more than one request'
always\t'A bar; where stderr is no terminal, a line a second'
never\t'Nothing'
json\t'JSON lines'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l tls-server-name -d 'The name that the broker\'s certificate must carry [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l platform-username -d 'The platform user\'s name [default: platform]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l platform-password-file -d 'A file with the platform user\'s password [default: TUYAGW_PLATFORM_PASSWORD, else derived]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l client-id -d 'The MQTT client id [default: a random one]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -s g -l gateway-id -d 'The gateway to command, where the input does not name one' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l no-check -d 'Check no values: neither type nor range, enumeration or access'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l ordered -d 'Give the results in input order'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l journal-any-broker -d 'Take a journal that was begun at another broker: what that one accepted is not sent to this one'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l no-wait -d 'Be done at the broker\'s acknowledgement, without waiting for the answer'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l no-reconnect -d 'Exit on the first lost connection'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l tls-insecure -d 'Verify nothing of the broker\'s certificate; reaches RSA-1024 boxes too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l speed -d 'So many times as fast as it was recorded, or max' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l rate -d 'Evenly, so many messages a second: 500/s, or 30/m' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l loop -d 'How many times' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l max-gap -d 'Cut pauses of the recording that are longer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l from -d 'Begin at a time (2026-11-22T07:22:00Z) or offset (10m)' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l to -d 'End before a time or offset' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l kind -d 'Send only messages of this kind; repeatable or with commas' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l cid -d 'Send only messages of this device; repeatable or with commas' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l topic -d 'Send only messages whose topic matches; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l map-gateway -d 'Play a gateway as another; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l map-cid -d 'Play a device as another; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l direction -d 'Play the gateways (up) or, with --listen, the edge (down)' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l listen -d 'Where gateways connect to, with --direction down; port 0 picks one' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l mqtt-port -d 'Another port of MQTT in a capture, beside 21883, 1883 and 8883; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -s g -l gateway-id -d 'The gateway\'s id, which fills {gateway_id} in every topic' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -s u -l username -d 'The username, which Tuya gives to each manufacturer' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l password-file -d 'A file with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l tls-server-name -d 'The name that the broker\'s certificate must carry [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l qos -d 'MQTT quality of service for publishing and subscribing [default: 1]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l keep-alive -d 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l timeout -d 'Time for each answer, not for the run [default: 10s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l keep-t -d 'Keep the recorded time stamps'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l keep-ids -d 'Keep the recorded request ids'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l verify -d 'Compare each answer\'s code with the recorded one'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l no-reconnect -d 'Exit on the first lost connection'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l dry-run -d 'Say what would be sent, and how long it takes'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l payload-base64 -d 'Payloads of a CSV recording are base64 (mqtt_recorder\'s --encode_b64)'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l tls-insecure -d 'Verify nothing of the broker\'s certificate; reaches RSA-1024 boxes too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l persistent -d 'Keep the session at the broker (clean session off), so that messages queued during an absence arrive'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -l early -d 'Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -l to -d 'What to write to stdout' -r -f -a "records\t'One record a line'
csv\t'CSV with a header, one row a message'"
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -l mqtt-port -d 'Another port of MQTT in a capture, beside 21883, 1883 and 8883; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -l payload-base64 -d 'Payloads of a CSV recording are base64 (mqtt_recorder\'s --encode_b64)'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand convert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l listen -d 'Address to listen on; port 0 picks a free one' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l tls-cert -d 'Speak TLS to clients with this certificate chain (PEM)' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l tls-key -d 'Private key of the certificate (PEM)' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l out -d 'Append the records to this file, synced, instead of printing them' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l summary -d 'Write the summary to this file as JSON, as `inspect --json` prints it' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l for -d 'End after this long' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -s b -l broker -d 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l ca-file -d 'Trust the certificate authorities in this PEM file [default: the system\'s roots]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l tls-server-name -d 'The name that the broker\'s certificate must carry [default: the host of the URL]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l connect-timeout -d 'Time for name, TCP, TLS and CONNACK together [default: 5s]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l max-packet -d 'Largest MQTT packet to accept or send, in bytes [default: 1048576]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -l tls-insecure -d 'Verify nothing of the broker\'s certificate; reaches RSA-1024 boxes too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand tap" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l html -d 'Write a page with charts to this file' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l model -d 'Product model for names, units and scales, instead of the smart water meter' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l profile -d 'The profile of the configuration file to use [default: the file\'s default-profile]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l config -d 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l mqtt-port -d 'Another port of MQTT in a capture, beside 21883, 1883 and 8883; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l json -d 'Print JSON, on a terminal too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -l payload-base64 -d 'Payloads of a CSV recording are base64 (mqtt_recorder\'s --encode_b64)'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l listen -d 'Address to listen on; port 0 picks a free one [default: 127.0.0.1:21883, with PROGRAM 127.0.0.1:0]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l username -d 'Username of gateways, repeatable; without it any whose password is right' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l platform-username -d 'Username of platform users, who may use every topic; repeatable' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l model -d 'Product model of the devices instead of the smart water meter' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l devices -d 'Remember synchronised devices in this file, on the disk before a sync is answered' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l out -d 'Append the records to this file instead of printing them' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l tls-cert -d 'Speak TLS with this certificate chain (PEM)' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l tls-key -d 'Private key of the certificate (PEM)' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-skew -d 'Refuse messages whose time stamp is further off, with 1001' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l offline-after -d 'Take a device for offline after this long without a sync or status' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l command-timeout -d 'How long a gateway may take to answer a command from stdin, once it is sent: 20 are on their way to a gateway' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l fault -d 'Misbehave, repeatable: see below' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l seed -d 'Seed of the faults\' dice; without it a random one, which is printed' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-connections -d 'Connections at once; more are closed' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-packet -d 'Largest packet taken from a client, in bytes' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-in-flight -d 'Unacknowledged messages on their way to one client' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-queue -d 'Bytes that may wait for one client; it is disconnected when more do, and gets no QoS 0 beyond 1 MiB' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-queues -d 'Bytes kept for all clients together: messages that wait, are unread or unacknowledged, subscriptions, names and wills; the clients with most are disconnected when there are more' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-retained -d 'Bytes of retained messages; there is no room for another when there are more' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l max-subscriptions -d 'Subscriptions of one client; more are refused' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l session-expiry -d 'How long the session of a client that wants one kept waits for its return' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -l connect-timeout -d 'How long a client may take until its CONNECT has come, TLS handshake included' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand edge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand model" -l model -d 'Product model to show instead of the smart water meter' -r -F
complete -c tuyagw -n "__fish_tuyagw_using_subcommand model" -l dp-map -d 'DP ids for codes, for a model without ids' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand model" -l json -d 'Print JSON, on a terminal too'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand model" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand model" -s h -l help -d 'Print help'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand explain" -l json -d 'Print JSON Lines, as in a pipe'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand explain" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand explain" -s h -l help -d 'Print help'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand completions" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand completions" -s h -l help -d 'Print help'
