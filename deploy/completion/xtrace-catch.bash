# bash completion for xtrace-catch. Generated from the table of options: make options

# Prints values for the option $1, one per line. Fails if it takes none.
_xtrace_catch_values() {
    local path
    case $1 in
        -m|--mode)
            printf '%s\n' xdp rdma nccl
            ;;
        -i|--interface)
            printf '%s\n' any
            for path in /sys/class/net/*/ifindex; do
                path=${path%/ifindex}
                [[ ${path##*/} == *[!A-Za-z0-9_.@+-]* ]] || printf '%s\n' "${path##*/}"
            done
            ;;
        -d|--device|--exclude-device)
            for path in "${XTRACE_SYSFS:-/sys}"/class/infiniband/*; do
                [[ ${path##*/} == *[!A-Za-z0-9_.@+-]* ]] || printf '%s\n' "${path##*/}"
            done
            ;;
        --direction)
            printf '%s\n' ingress egress both
            ;;
        -f|--filter)
            printf '%s\n' tcp udp icmp sctp roce_v1 roce_v2 roce ib all
            ;;
        --net|--exclude-net|--port|-t|--interval|-c|--count|--top|--push|--spool|--ipfix|--listen|--listen-config|--max-series|--label|--max-flows|--max-calls|--ras|--ras-interval|--user|--sysfs|--procfs)
            ;;
        --tunnel)
            printf '%s\n' outer inner
            ;;
        -o|--format)
            printf '%s\n' auto table text json none
            ;;
        --by)
            printf '%s\n' flow owner
            ;;
        --color)
            printf '%s\n' auto always never
            ;;
        --push-format)
            printf '%s\n' auto import remote-write otlp
            ;;
        --series-by)
            printf '%s\n' flow service hosts owner
            ;;
        --metrics)
            printf '%s\n' all counters
            ;;
        --hook)
            printf '%s\n' auto xdp tc
            ;;
        --xdp-mode)
            printf '%s\n' auto native generic
            ;;
        --threshold)
            printf '%s\n' retry_exceeded= link_downed= ack_timeout= link_error_recovery= symbol_error= rcv_errors= xmit_discards= constraint_errors= link_integrity_errors= buffer_overrun_errors= icrc= command_errors= rx_oos= seq_nak_rx= implied_nak= dup_req= retrans= rnr_rx= no_rx_wqe= cnp_rx= cnp_tx= paused= imbalance= idle= hang= late= tcp_retransmitted= tcp_late= tcp_timeouts= tcp_receiver_limited= tcp_buffer_limited= tcp_own_window= tcp_rtt= tcp_failed= tcp_reset=
            ;;
        *) return 1 ;;
    esac
}

# Completes a word of a subcommand: $1, one of the flags $2, or a file.
_xtrace_catch_file() {
    if [[ $1 == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$2" -- "$1")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$1")
        compopt -o filenames 2> /dev/null
    fi
}

_xtrace_catch() {
    local line=${COMP_LINE:0:COMP_POINT} flags list option value values chosen prefix candidate command
    flags='-m --mode -i --interface -d --device --exclude-device --direction -f --filter --net --exclude-net --port --exclude-dns --tunnel -t --interval -c --count -o --format --live --top --tcp --tcp-packets --owners --by --wide --color --qps -l --list --doctor --push --push-format --spool --ipfix --ipfix-biflow --listen --listen-config --max-series --series-by --metrics --label --hook --xdp-mode --promiscuous --max-flows --max-calls --threshold --ras --ras-interval --user --sysfs --procfs -q --quiet --debug -V --version -h --help --help-all'
    list=' -m --mode -i --interface -d --device --exclude-device -f --filter --net --exclude-net --port --threshold --ras '
    COMPREPLY=()

    # readline splits words at = and : too; split only at blanks here
    value=${line##*[[:blank:]]}
    line=${line%"$value"}
    read -r _ command _ <<< "$line"
    case $command in
        report) _xtrace_catch_file "$value" '-o --output -h --help'; return ;;
        hang) _xtrace_catch_file "$value" '-o --format --threshold -h --help'; return ;;
        '') flags+=' report hang' ;;
    esac
    option=${line%"${line##*[![:blank:]]}"}
    option=${option##*[[:blank:]]}
    if [[ $value == --*=* ]]; then
        option=${value%%=*}
        value=${value#*=}
    elif [[ $value == -* ]]; then
        option=
    fi
    if ! values=$(_xtrace_catch_values "$option"); then
        mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$value")
        return
    fi
    case $option in
        --sysfs|--procfs)
            mapfile -t values < <(compgen -d -- "$value")
            compopt -o filenames 2> /dev/null
            ;;
        *) mapfile -t values <<< "$values" ;;
    esac

    # keep the part of a list before the last comma
    chosen=
    if [[ $list == *" $option "* ]]; then
        chosen=${value%"${value##*,}"}
        compopt -o nospace 2> /dev/null
    fi
    # readline replaces only the text after the last word break character
    prefix=${value%"${value##*[$COMP_WORDBREAKS]}"}
    for candidate in "${values[@]}"; do
        if [[ -n $candidate && ,$chosen != *",$candidate,"* && $chosen$candidate == "$value"* ]]; then
            candidate=$chosen$candidate
            COMPREPLY+=("${candidate#"$prefix"}")
        fi
    done
}

complete -F _xtrace_catch xtrace-catch
