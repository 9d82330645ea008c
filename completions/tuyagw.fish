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
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "explain" -d 'Say what a code means and what to do about it'
complete -c tuyagw -n "__fish_tuyagw_needs_command" -f -a "completions" -d 'Print a shell completion script'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -s g -l gateway-id -d 'The gateway\'s id' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -l client-id -d 'The MQTT client id [default: the gateway id]' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -s u -l username -d 'The username, which Tuya provides' -r
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -l raw -d 'Print the password alone, as on a terminal'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand password" -s h -l help -d 'Print help'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand explain" -l json -d 'Print JSON Lines, as in a pipe'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand explain" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand explain" -s h -l help -d 'Print help'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand completions" -s q -l quiet -d 'Print only errors and warnings on stderr'
complete -c tuyagw -n "__fish_tuyagw_using_subcommand completions" -s h -l help -d 'Print help'
