
use builtin;
use str;

set edit:completion:arg-completer[tuyagw] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'tuyagw'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'tuyagw'= {
            cand -q 'Print only errors and warnings on stderr'
            cand --quiet 'Print only errors and warnings on stderr'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
            cand password 'Derive the MQTT password from client id and username'
            cand explain 'Say what a code means and what to do about it'
            cand completions 'Print a shell completion script'
        }
        &'tuyagw;password'= {
            cand -g 'The gateway''s id'
            cand --gateway-id 'The gateway''s id'
            cand --client-id 'The MQTT client id [default: the gateway id]'
            cand -u 'The username, which Tuya provides'
            cand --username 'The username, which Tuya provides'
            cand --raw 'Print the password alone, as on a terminal'
            cand -q 'Print only errors and warnings on stderr'
            cand --quiet 'Print only errors and warnings on stderr'
            cand -h 'Print help'
            cand --help 'Print help'
        }
        &'tuyagw;explain'= {
            cand --json 'Print JSON Lines, as in a pipe'
            cand -q 'Print only errors and warnings on stderr'
            cand --quiet 'Print only errors and warnings on stderr'
            cand -h 'Print help'
            cand --help 'Print help'
        }
        &'tuyagw;completions'= {
            cand -q 'Print only errors and warnings on stderr'
            cand --quiet 'Print only errors and warnings on stderr'
            cand -h 'Print help'
            cand --help 'Print help'
        }
    ]
    $completions[$command]
}
