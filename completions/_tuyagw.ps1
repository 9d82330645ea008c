
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'tuyagw' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'tuyagw'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'tuyagw' {
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('password', 'password', [CompletionResultType]::ParameterValue, 'Derive the MQTT password from client id and username')
            [CompletionResult]::new('sync', 'sync', [CompletionResultType]::ParameterValue, 'Synchronise (add or update) devices and wait for each answer')
            [CompletionResult]::new('report', 'report', [CompletionResultType]::ParameterValue, 'Report data points, one message each, and wait for each answer')
            [CompletionResult]::new('status', 'status', [CompletionResultType]::ParameterValue, 'Report devices online or offline')
            [CompletionResult]::new('command', 'command', [CompletionResultType]::ParameterValue, 'Send commands to devices, from the platform''s side, and wait for each result')
            [CompletionResult]::new('model', 'model', [CompletionResultType]::ParameterValue, 'Show or check a product model')
            [CompletionResult]::new('explain', 'explain', [CompletionResultType]::ParameterValue, 'Say what a code means and what to do about it')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print a shell completion script')
            break
        }
        'tuyagw;password' {
            [CompletionResult]::new('-g', '-g', [CompletionResultType]::ParameterName, 'The gateway''s id')
            [CompletionResult]::new('--gateway-id', '--gateway-id', [CompletionResultType]::ParameterName, 'The gateway''s id')
            [CompletionResult]::new('--client-id', '--client-id', [CompletionResultType]::ParameterName, 'The MQTT client id [default: the gateway id]')
            [CompletionResult]::new('-u', '-u', [CompletionResultType]::ParameterName, 'The username, which Tuya provides')
            [CompletionResult]::new('--username', '--username', [CompletionResultType]::ParameterName, 'The username, which Tuya provides')
            [CompletionResult]::new('--raw', '--raw', [CompletionResultType]::ParameterName, 'Print the password alone, as on a terminal')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'tuyagw;sync' {
            [CompletionResult]::new('--cid', '--cid', [CompletionResultType]::ParameterName, 'The device''s id, unique under the gateway, such as its serial number')
            [CompletionResult]::new('--product-id', '--product-id', [CompletionResultType]::ParameterName, 'The product''s id on the platform')
            [CompletionResult]::new('--vendor-code', '--vendor-code', [CompletionResultType]::ParameterName, 'The manufacturer''s code')
            [CompletionResult]::new('--comm-type', '--comm-type', [CompletionResultType]::ParameterName, 'How the device talks to the gateway [default: mqtt]')
            [CompletionResult]::new('--device-ip', '--device-ip', [CompletionResultType]::ParameterName, 'The device''s IP address')
            [CompletionResult]::new('--mac-address', '--mac-address', [CompletionResultType]::ParameterName, 'The device''s MAC address')
            [CompletionResult]::new('--device-name', '--device-name', [CompletionResultType]::ParameterName, 'The device''s name [default: the cid]')
            [CompletionResult]::new('--device-desc', '--device-desc', [CompletionResultType]::ParameterName, 'A description')
            [CompletionResult]::new('--install-location', '--install-location', [CompletionResultType]::ParameterName, 'Where it is installed')
            [CompletionResult]::new('--device-server-id', '--device-server-id', [CompletionResultType]::ParameterName, 'The device server''s id')
            [CompletionResult]::new('--product-sub-type', '--product-sub-type', [CompletionResultType]::ParameterName, 'The product''s sub-type')
            [CompletionResult]::new('--window', '--window', [CompletionResultType]::ParameterName, 'How many requests may be in flight')
            [CompletionResult]::new('--t-unit', '--t-unit', [CompletionResultType]::ParameterName, 'The unit of the time stamp t in messages')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show progress on stderr')
            [CompletionResult]::new('-g', '-g', [CompletionResultType]::ParameterName, 'The gateway''s id, which fills {gateway_id} in every topic')
            [CompletionResult]::new('--gateway-id', '--gateway-id', [CompletionResultType]::ParameterName, 'The gateway''s id, which fills {gateway_id} in every topic')
            [CompletionResult]::new('--client-id', '--client-id', [CompletionResultType]::ParameterName, 'The MQTT client id [default: the gateway id]')
            [CompletionResult]::new('-u', '-u', [CompletionResultType]::ParameterName, 'The username, which Tuya gives to each manufacturer')
            [CompletionResult]::new('--username', '--username', [CompletionResultType]::ParameterName, 'The username, which Tuya gives to each manufacturer')
            [CompletionResult]::new('--password-file', '--password-file', [CompletionResultType]::ParameterName, 'A file with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]')
            [CompletionResult]::new('-b', '-b', [CompletionResultType]::ParameterName, 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]')
            [CompletionResult]::new('--broker', '--broker', [CompletionResultType]::ParameterName, 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]')
            [CompletionResult]::new('--ca-file', '--ca-file', [CompletionResultType]::ParameterName, 'Trust the certificate authorities in this PEM file [default: the system''s roots]')
            [CompletionResult]::new('--tls-server-name', '--tls-server-name', [CompletionResultType]::ParameterName, 'The name that the broker''s certificate must carry [default: the host of the URL]')
            [CompletionResult]::new('--qos', '--qos', [CompletionResultType]::ParameterName, 'MQTT quality of service of what is published and subscribed [default: 1]')
            [CompletionResult]::new('--keep-alive', '--keep-alive', [CompletionResultType]::ParameterName, 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]')
            [CompletionResult]::new('--connect-timeout', '--connect-timeout', [CompletionResultType]::ParameterName, 'Time for name, TCP, TLS and CONNACK together [default: 5s]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Time for each answer, not for the run [default: 10s]')
            [CompletionResult]::new('--max-packet', '--max-packet', [CompletionResultType]::ParameterName, 'Largest MQTT packet to accept or send, in bytes [default: 1048576]')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'The profile of the configuration file to use [default: the file''s default-profile]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]')
            [CompletionResult]::new('--no-check', '--no-check', [CompletionResultType]::ParameterName, 'Send each device''s fields as given, unchecked')
            [CompletionResult]::new('--no-wait', '--no-wait', [CompletionResultType]::ParameterName, 'Be done at the broker''s acknowledgement, without waiting for the answer')
            [CompletionResult]::new('--no-reconnect', '--no-reconnect', [CompletionResultType]::ParameterName, 'Give a lost connection up at once')
            [CompletionResult]::new('--tls-insecure', '--tls-insecure', [CompletionResultType]::ParameterName, 'Verify nothing of the broker''s certificate; reaches RSA-1024 boxes too')
            [CompletionResult]::new('--persistent', '--persistent', [CompletionResultType]::ParameterName, 'Keep the session at the broker (clean session off), so that what was queued while away arrives')
            [CompletionResult]::new('--early', '--early', [CompletionResultType]::ParameterName, 'Send CONNECT, SUBSCRIBE and PUBLISH in one flight, without waiting for CONNACK')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'tuyagw;report' {
            [CompletionResult]::new('--cid', '--cid', [CompletionResultType]::ParameterName, 'The device')
            [CompletionResult]::new('--model', '--model', [CompletionResultType]::ParameterName, 'The product model to check values against [default: the smart water meter]')
            [CompletionResult]::new('--value-encoding', '--value-encoding', [CompletionResultType]::ParameterName, 'Send values as native JSON, or all of them as strings')
            [CompletionResult]::new('--window', '--window', [CompletionResultType]::ParameterName, 'How many requests may be in flight')
            [CompletionResult]::new('--t-unit', '--t-unit', [CompletionResultType]::ParameterName, 'The unit of the time stamp t in messages')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show progress on stderr')
            [CompletionResult]::new('-g', '-g', [CompletionResultType]::ParameterName, 'The gateway''s id, which fills {gateway_id} in every topic')
            [CompletionResult]::new('--gateway-id', '--gateway-id', [CompletionResultType]::ParameterName, 'The gateway''s id, which fills {gateway_id} in every topic')
            [CompletionResult]::new('--client-id', '--client-id', [CompletionResultType]::ParameterName, 'The MQTT client id [default: the gateway id]')
            [CompletionResult]::new('-u', '-u', [CompletionResultType]::ParameterName, 'The username, which Tuya gives to each manufacturer')
            [CompletionResult]::new('--username', '--username', [CompletionResultType]::ParameterName, 'The username, which Tuya gives to each manufacturer')
            [CompletionResult]::new('--password-file', '--password-file', [CompletionResultType]::ParameterName, 'A file with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]')
            [CompletionResult]::new('-b', '-b', [CompletionResultType]::ParameterName, 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]')
            [CompletionResult]::new('--broker', '--broker', [CompletionResultType]::ParameterName, 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]')
            [CompletionResult]::new('--ca-file', '--ca-file', [CompletionResultType]::ParameterName, 'Trust the certificate authorities in this PEM file [default: the system''s roots]')
            [CompletionResult]::new('--tls-server-name', '--tls-server-name', [CompletionResultType]::ParameterName, 'The name that the broker''s certificate must carry [default: the host of the URL]')
            [CompletionResult]::new('--qos', '--qos', [CompletionResultType]::ParameterName, 'MQTT quality of service of what is published and subscribed [default: 1]')
            [CompletionResult]::new('--keep-alive', '--keep-alive', [CompletionResultType]::ParameterName, 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]')
            [CompletionResult]::new('--connect-timeout', '--connect-timeout', [CompletionResultType]::ParameterName, 'Time for name, TCP, TLS and CONNACK together [default: 5s]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Time for each answer, not for the run [default: 10s]')
            [CompletionResult]::new('--max-packet', '--max-packet', [CompletionResultType]::ParameterName, 'Largest MQTT packet to accept or send, in bytes [default: 1048576]')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'The profile of the configuration file to use [default: the file''s default-profile]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]')
            [CompletionResult]::new('--no-check', '--no-check', [CompletionResultType]::ParameterName, 'Send values as given, without checking type, range, enumeration and access')
            [CompletionResult]::new('--no-wait', '--no-wait', [CompletionResultType]::ParameterName, 'Be done at the broker''s acknowledgement, without waiting for the answer')
            [CompletionResult]::new('--no-reconnect', '--no-reconnect', [CompletionResultType]::ParameterName, 'Give a lost connection up at once')
            [CompletionResult]::new('--tls-insecure', '--tls-insecure', [CompletionResultType]::ParameterName, 'Verify nothing of the broker''s certificate; reaches RSA-1024 boxes too')
            [CompletionResult]::new('--persistent', '--persistent', [CompletionResultType]::ParameterName, 'Keep the session at the broker (clean session off), so that what was queued while away arrives')
            [CompletionResult]::new('--early', '--early', [CompletionResultType]::ParameterName, 'Send CONNECT, SUBSCRIBE and PUBLISH in one flight, without waiting for CONNACK')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'tuyagw;status' {
            [CompletionResult]::new('--online', '--online', [CompletionResultType]::ParameterName, 'Devices that are online')
            [CompletionResult]::new('--offline', '--offline', [CompletionResultType]::ParameterName, 'Devices that are offline')
            [CompletionResult]::new('--window', '--window', [CompletionResultType]::ParameterName, 'How many requests may be in flight')
            [CompletionResult]::new('--t-unit', '--t-unit', [CompletionResultType]::ParameterName, 'The unit of the time stamp t in messages')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show progress on stderr')
            [CompletionResult]::new('-g', '-g', [CompletionResultType]::ParameterName, 'The gateway''s id, which fills {gateway_id} in every topic')
            [CompletionResult]::new('--gateway-id', '--gateway-id', [CompletionResultType]::ParameterName, 'The gateway''s id, which fills {gateway_id} in every topic')
            [CompletionResult]::new('--client-id', '--client-id', [CompletionResultType]::ParameterName, 'The MQTT client id [default: the gateway id]')
            [CompletionResult]::new('-u', '-u', [CompletionResultType]::ParameterName, 'The username, which Tuya gives to each manufacturer')
            [CompletionResult]::new('--username', '--username', [CompletionResultType]::ParameterName, 'The username, which Tuya gives to each manufacturer')
            [CompletionResult]::new('--password-file', '--password-file', [CompletionResultType]::ParameterName, 'A file with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]')
            [CompletionResult]::new('-b', '-b', [CompletionResultType]::ParameterName, 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]')
            [CompletionResult]::new('--broker', '--broker', [CompletionResultType]::ParameterName, 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]')
            [CompletionResult]::new('--ca-file', '--ca-file', [CompletionResultType]::ParameterName, 'Trust the certificate authorities in this PEM file [default: the system''s roots]')
            [CompletionResult]::new('--tls-server-name', '--tls-server-name', [CompletionResultType]::ParameterName, 'The name that the broker''s certificate must carry [default: the host of the URL]')
            [CompletionResult]::new('--qos', '--qos', [CompletionResultType]::ParameterName, 'MQTT quality of service of what is published and subscribed [default: 1]')
            [CompletionResult]::new('--keep-alive', '--keep-alive', [CompletionResultType]::ParameterName, 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]')
            [CompletionResult]::new('--connect-timeout', '--connect-timeout', [CompletionResultType]::ParameterName, 'Time for name, TCP, TLS and CONNACK together [default: 5s]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Time for each answer, not for the run [default: 10s]')
            [CompletionResult]::new('--max-packet', '--max-packet', [CompletionResultType]::ParameterName, 'Largest MQTT packet to accept or send, in bytes [default: 1048576]')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'The profile of the configuration file to use [default: the file''s default-profile]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]')
            [CompletionResult]::new('--no-wait', '--no-wait', [CompletionResultType]::ParameterName, 'Be done at the broker''s acknowledgement, without waiting for the answer')
            [CompletionResult]::new('--no-reconnect', '--no-reconnect', [CompletionResultType]::ParameterName, 'Give a lost connection up at once')
            [CompletionResult]::new('--tls-insecure', '--tls-insecure', [CompletionResultType]::ParameterName, 'Verify nothing of the broker''s certificate; reaches RSA-1024 boxes too')
            [CompletionResult]::new('--persistent', '--persistent', [CompletionResultType]::ParameterName, 'Keep the session at the broker (clean session off), so that what was queued while away arrives')
            [CompletionResult]::new('--early', '--early', [CompletionResultType]::ParameterName, 'Send CONNECT, SUBSCRIBE and PUBLISH in one flight, without waiting for CONNACK')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'tuyagw;command' {
            [CompletionResult]::new('--cid', '--cid', [CompletionResultType]::ParameterName, 'The device')
            [CompletionResult]::new('--model', '--model', [CompletionResultType]::ParameterName, 'The product model to check values against [default: the smart water meter]')
            [CompletionResult]::new('--value-encoding', '--value-encoding', [CompletionResultType]::ParameterName, 'Send values as native JSON, or all of them as strings')
            [CompletionResult]::new('--window', '--window', [CompletionResultType]::ParameterName, 'How many requests may be in flight')
            [CompletionResult]::new('--t-unit', '--t-unit', [CompletionResultType]::ParameterName, 'The unit of the time stamp t in messages')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show progress on stderr')
            [CompletionResult]::new('--platform-username', '--platform-username', [CompletionResultType]::ParameterName, 'The platform user''s name [default: platform]')
            [CompletionResult]::new('--platform-password-file', '--platform-password-file', [CompletionResultType]::ParameterName, 'A file with the platform user''s password [default: TUYAGW_PLATFORM_PASSWORD, else derived]')
            [CompletionResult]::new('--client-id', '--client-id', [CompletionResultType]::ParameterName, 'The MQTT client id [default: a random one]')
            [CompletionResult]::new('-g', '-g', [CompletionResultType]::ParameterName, 'The gateway to command, where the input does not name one')
            [CompletionResult]::new('--gateway-id', '--gateway-id', [CompletionResultType]::ParameterName, 'The gateway to command, where the input does not name one')
            [CompletionResult]::new('-b', '-b', [CompletionResultType]::ParameterName, 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]')
            [CompletionResult]::new('--broker', '--broker', [CompletionResultType]::ParameterName, 'The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]')
            [CompletionResult]::new('--ca-file', '--ca-file', [CompletionResultType]::ParameterName, 'Trust the certificate authorities in this PEM file [default: the system''s roots]')
            [CompletionResult]::new('--tls-server-name', '--tls-server-name', [CompletionResultType]::ParameterName, 'The name that the broker''s certificate must carry [default: the host of the URL]')
            [CompletionResult]::new('--qos', '--qos', [CompletionResultType]::ParameterName, 'MQTT quality of service of what is published and subscribed [default: 1]')
            [CompletionResult]::new('--keep-alive', '--keep-alive', [CompletionResultType]::ParameterName, 'Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]')
            [CompletionResult]::new('--connect-timeout', '--connect-timeout', [CompletionResultType]::ParameterName, 'Time for name, TCP, TLS and CONNACK together [default: 5s]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Time for each answer, not for the run [default: 10s]')
            [CompletionResult]::new('--max-packet', '--max-packet', [CompletionResultType]::ParameterName, 'Largest MQTT packet to accept or send, in bytes [default: 1048576]')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'The profile of the configuration file to use [default: the file''s default-profile]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]')
            [CompletionResult]::new('--no-check', '--no-check', [CompletionResultType]::ParameterName, 'Send values as given, without checking type, range, enumeration and access')
            [CompletionResult]::new('--no-wait', '--no-wait', [CompletionResultType]::ParameterName, 'Be done at the broker''s acknowledgement, without waiting for the answer')
            [CompletionResult]::new('--no-reconnect', '--no-reconnect', [CompletionResultType]::ParameterName, 'Give a lost connection up at once')
            [CompletionResult]::new('--tls-insecure', '--tls-insecure', [CompletionResultType]::ParameterName, 'Verify nothing of the broker''s certificate; reaches RSA-1024 boxes too')
            [CompletionResult]::new('--persistent', '--persistent', [CompletionResultType]::ParameterName, 'Keep the session at the broker (clean session off), so that what was queued while away arrives')
            [CompletionResult]::new('--early', '--early', [CompletionResultType]::ParameterName, 'Send CONNECT, SUBSCRIBE and PUBLISH in one flight, without waiting for CONNACK')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'tuyagw;model' {
            [CompletionResult]::new('--model', '--model', [CompletionResultType]::ParameterName, 'Product model to show instead of the smart water meter')
            [CompletionResult]::new('--dp-map', '--dp-map', [CompletionResultType]::ParameterName, 'DP ids for codes, for a model without ids')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON, on a terminal too')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'tuyagw;explain' {
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON Lines, as in a pipe')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'tuyagw;completions' {
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only errors and warnings on stderr')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
