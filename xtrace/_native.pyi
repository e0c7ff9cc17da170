"""Type stubs of the compiled shim, written by `make stub` from csrc/*.h."""

from typing import Any, Literal, overload

class struct_claimed:
    entries: int
    unused: int
    padding: Any

class struct_completion:
    buffer: int
    next: int
    end: int
    padding: int

class struct_flow_counters:
    packets: int
    bytes: int
    tcp_flags: int
    ecn_ce: int
    ecn_ce_bytes: Any
    dscp: int
    dscp_changed: int
    first: int
    last: int

class struct_flow_entry:
    key: struct_flow_key
    counters: struct_flow_counters
    place: int
    asked: int

class struct_flow_key:
    src: Any
    dst: Any
    src_port: int
    dst_port: int
    dst_qpn: int
    src_qpn: int
    vlan_id: int
    ethertype: int
    slot: int
    protocol: int
    opcode: int
    flags: int

class struct_flow_owner:
    cgroup: int
    pid: int
    uid: int
    command: Any
    kind: int
    role: int
    padding: Any

class struct_flow_search:
    kinds: int
    slots: Any
    ports: Any

class struct_index_place:
    word: int
    owner: int
    plain_addresses: int
    plain_rest: int
    counters: struct_flow_counters

class struct_interface_counters:
    total: struct_packet_count
    filtered: struct_packet_count
    unattributed: Any
    filtered_fragments: struct_packet_count

class struct_known_flow:
    local: Any
    remote: Any
    local_port: int
    remote_port: int
    ifindex: int
    protocol: int

class struct_nccl_call:
    key: struct_nccl_key
    begin_ns: int
    out: int
    list: int
    count: int
    id: int
    parent: int
    number: int
    nranks: int
    rank: int
    root: int
    file: int

class struct_nccl_communicator:
    nranks: int
    rank: int
    device: int
    user: int
    id: int
    parent: int
    begun: int
    returned: int
    last_begin_ns: int
    last_return_ns: int
    children: int
    is_whole: int
    peers_lost: int
    ended_by: int
    padding: int
    marks: Any

class struct_nccl_communicator_key:
    communicator: int
    tgid: int
    padding: int

class struct_nccl_counters:
    calls: int
    elements: int
    returned: int
    latency_ns: int
    results: Any
    latency: Any
    command: Any

class struct_nccl_file:
    last_called_ns: int
    is_live: int
    padding: int

class struct_nccl_frame:
    thread: int
    stack: int
    function: int

class struct_nccl_key:
    communicator: int
    tgid: int
    nranks: int
    rank: int
    function: int
    datatype: int
    padding: int

class struct_nccl_mark:
    number: int
    begin_ns: int
    elements: int
    root: int
    function: int
    datatype: int
    padding: int

class struct_nccl_owner:
    kind: int
    id: int

class struct_nccl_peer:
    sends: int
    receives: int
    last_send_ns: int
    last_receive_ns: int

class struct_nccl_peer_key:
    communicator: int
    tgid: int
    peer: int

class struct_nccl_totals:
    entries: int
    nested: int
    duplicate: int
    unattributed: int
    unattributed_elements: int
    unattributed_returns: int

class struct_network:
    prefix_length: int
    family: int
    address: Any

class struct_owner_rank:
    bytes: int
    last: int
    is_process: int

class struct_owner_sum:
    owner: struct_flow_owner
    flows: int
    packets: int
    bytes: int
    slot: int
    egress: int
    padding: Any

class struct_packet_count:
    packets: int
    bytes: int

class struct_place_sum:
    flows: int
    packets: int
    bytes: int

class struct_ranked_flow:
    bytes: int
    index: int
    padding: int

class struct_recent_flow:
    key: struct_flow_key
    counters: struct_flow_counters
    entry: int
    challenger: int
    plain_addresses: int
    plain_rest: int

class struct_socket_owner:
    owner: struct_flow_owner
    cookie: int

class struct_tcp_end:
    netns: int
    event: int
    state: int
    error: int
    congestion: Any
    closer: int
    command: Any
    raw: Any

class struct_tcp_end_key:
    socket: int
    at_ns: int

class struct_tcp_gap:
    start: int
    end: int

class struct_tcp_missed:
    no_room: int
    unread: int
    second_pass: int
    uncounted: int

class struct_tcp_path:
    syn_ns: int
    answer_ns: int
    server_ns: int
    client_ns: int
    opened: int
    refused: int
    unanswered: int
    last: int
    opener: int
    handshake: int
    has_ended: int
    slot: int
    padding: int
    ways: Any

class struct_tcp_path_key:
    low: Any
    high: Any
    low_port: int
    high_port: int
    ifindex: int
    vlan_id: int

class struct_tcp_sample:
    local: Any
    remote: Any
    local_port: int
    remote_port: int
    netns: int
    cookie: int
    activity: int
    known: int
    values: Any
    congestion: Any
    event: int
    state: int
    error: int
    uid: int

class struct_tcp_way:
    packets: int
    data_packets: int
    bytes: int
    retransmitted_packets: int
    retransmitted_bytes: int
    late_packets: int
    late_bytes: int
    untold_packets: int
    untold_bytes: int
    gaps: int
    probes: int
    duplicate_acks: int
    zero_windows: int
    closed_ticks: int
    syns: int
    repeated_syns: int
    fins: int
    resets: int
    next: int
    sure_from: int
    syn: int
    ack: int
    closed_since: int
    astray: int
    seen: int
    missing: Any
    window: int
    flags: int
    hook: int

class struct_terminal_modes:
    input: int
    local: int
    characters: Any

class struct_xt_btf:
    blob: Any
    types: int
    types_end: int
    strings: int
    strings_end: int
    positions: Any
    count: int

class struct_xt_ethtool_gstrings:
    cmd: int
    string_set: int
    len: int

class struct_xt_ethtool_sset_info:
    cmd: int
    reserved: int
    sset_mask: int
    data: int
    padding: int

class struct_xt_ethtool_stats:
    cmd: int
    n_stats: int

class struct_xt_ethtool_value:
    cmd: int
    data: int

class struct_xt_flow_lines:
    entries: struct_flow_entry
    first: int
    at_hand: int
    chosen: Any
    count: int
    next: int
    names: struct_xt_names
    in_words: int
    before: struct_xt_text
    units: struct_xt_text
    interface: struct_xt_text
    direction: struct_xt_text
    tick: int
    tick_at: int
    tick_ns: int
    wall_offset: int
    start: int
    end: int
    needs_origin: int
    has_origin: int
    src_qpn: int
    process: struct_xt_text
    owners: struct_flow_owner
    owner: struct_flow_owner
    owner_fields: struct_xt_text
    out: Any
    room: int
    used: int

class struct_xt_link_info:
    type: int
    id: int
    prog_id: int
    padding: int
    ifindex: int

class struct_xt_map_create:
    map_type: int
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    inner_map_fd: int
    btf_fd: int
    btf_key_type_id: int
    btf_value_type_id: int
    map_name: Any

class struct_xt_names:
    traffic_types: Any
    tunnels: Any
    opcodes: Any
    tcp_flags: Any

class struct_xt_prog_info:
    type: int
    id: int
    tag: Any
    jited_prog_len: int
    xlated_prog_len: int
    jited_prog_insns: int
    xlated_prog_insns: int
    load_time: int
    created_by_uid: int
    nr_map_ids: int
    map_ids: int
    name: Any

class struct_xt_prog_load:
    prog_type: int
    expected_attach_type: int
    prog_flags: int
    insn_cnt: int
    insns: Any
    license: Any
    prog_btf_fd: int
    func_info_rec_size: int
    func_info_cnt: int
    line_info_rec_size: int
    line_info_cnt: int
    log_level: int
    log_size: int
    func_info: Any
    line_info: Any
    log_buf: Any
    prog_name: Any

class struct_xt_tcp_samples:
    samples: struct_tcp_sample
    room: int
    count: int

class struct_xt_test_run:
    prog_fd: int
    flags: int
    repeat: int
    batch_size: int
    data_size_in: int
    ctx_size_in: int
    data_in: Any
    ctx_in: Any
    data_out: Any
    data_size_out: int
    retval: int
    duration: int

class struct_xt_text:
    start: Any
    length: int

class struct_xt_uprobes:
    path: Any
    offsets: Any
    cookies: Any
    count: int
    flags: int

class _FFI:
    NULL: Any
    def addressof(self, cdata: Any, *fields: str | int) -> Any: ...
    def buffer(self, cdata: Any, size: int = ...) -> Any: ...
    def cast(self, cdecl: str, value: Any) -> Any: ...
    @overload
    def from_buffer(self, cdecl: str, python_buffer: Any) -> Any: ...
    @overload
    def from_buffer(self, cdecl: Any) -> Any: ...
    def memmove(self, dest: Any, src: Any, n: int) -> None: ...
    def new_allocator(self, *, should_clear_after_alloc: bool) -> Any: ...
    def offsetof(self, cdecl: str, *fields: str | int) -> int: ...
    def sizeof(self, cdecl: Any) -> int: ...
    def string(self, cdata: Any, maxlen: int = ...) -> bytes: ...
    def typeof(self, cdecl: Any) -> Any: ...
    @overload
    def new(self, cdecl: Literal["struct claimed *"], init: Any = ...) -> struct_claimed: ...
    @overload
    def new(self, cdecl: Literal["struct completion *"], init: Any = ...) -> struct_completion: ...
    @overload
    def new(self, cdecl: Literal["struct flow_counters *"], init: Any = ...) -> struct_flow_counters: ...
    @overload
    def new(self, cdecl: Literal["struct flow_entry *"], init: Any = ...) -> struct_flow_entry: ...
    @overload
    def new(self, cdecl: Literal["struct flow_key *"], init: Any = ...) -> struct_flow_key: ...
    @overload
    def new(self, cdecl: Literal["struct flow_owner *"], init: Any = ...) -> struct_flow_owner: ...
    @overload
    def new(self, cdecl: Literal["struct flow_search *"], init: Any = ...) -> struct_flow_search: ...
    @overload
    def new(self, cdecl: Literal["struct index_place *"], init: Any = ...) -> struct_index_place: ...
    @overload
    def new(self, cdecl: Literal["struct interface_counters *"], init: Any = ...) -> struct_interface_counters: ...
    @overload
    def new(self, cdecl: Literal["struct known_flow *"], init: Any = ...) -> struct_known_flow: ...
    @overload
    def new(self, cdecl: Literal["struct nccl_call *"], init: Any = ...) -> struct_nccl_call: ...
    @overload
    def new(self, cdecl: Literal["struct nccl_communicator *"], init: Any = ...) -> struct_nccl_communicator: ...
    @overload
    def new(self, cdecl: Literal["struct nccl_communicator_key *"], init: Any = ...) -> struct_nccl_communicator_key: ...
    @overload
    def new(self, cdecl: Literal["struct nccl_counters *"], init: Any = ...) -> struct_nccl_counters: ...
    @overload
    def new(self, cdecl: Literal["struct nccl_file *"], init: Any = ...) -> struct_nccl_file: ...
    @overload
    def new(self, cdecl: Literal["struct nccl_frame *"], init: Any = ...) -> struct_nccl_frame: ...
    @overload
    def new(self, cdecl: Literal["struct nccl_key *"], init: Any = ...) -> struct_nccl_key: ...
    @overload
    def new(self, cdecl: Literal["struct nccl_mark *"], init: Any = ...) -> struct_nccl_mark: ...
    @overload
    def new(self, cdecl: Literal["struct nccl_owner *"], init: Any = ...) -> struct_nccl_owner: ...
    @overload
    def new(self, cdecl: Literal["struct nccl_peer *"], init: Any = ...) -> struct_nccl_peer: ...
    @overload
    def new(self, cdecl: Literal["struct nccl_peer_key *"], init: Any = ...) -> struct_nccl_peer_key: ...
    @overload
    def new(self, cdecl: Literal["struct nccl_totals *"], init: Any = ...) -> struct_nccl_totals: ...
    @overload
    def new(self, cdecl: Literal["struct network *"], init: Any = ...) -> struct_network: ...
    @overload
    def new(self, cdecl: Literal["struct owner_rank *"], init: Any = ...) -> struct_owner_rank: ...
    @overload
    def new(self, cdecl: Literal["struct owner_sum *"], init: Any = ...) -> struct_owner_sum: ...
    @overload
    def new(self, cdecl: Literal["struct packet_count *"], init: Any = ...) -> struct_packet_count: ...
    @overload
    def new(self, cdecl: Literal["struct place_sum *"], init: Any = ...) -> struct_place_sum: ...
    @overload
    def new(self, cdecl: Literal["struct ranked_flow *"], init: Any = ...) -> struct_ranked_flow: ...
    @overload
    def new(self, cdecl: Literal["struct recent_flow *"], init: Any = ...) -> struct_recent_flow: ...
    @overload
    def new(self, cdecl: Literal["struct socket_owner *"], init: Any = ...) -> struct_socket_owner: ...
    @overload
    def new(self, cdecl: Literal["struct tcp_end *"], init: Any = ...) -> struct_tcp_end: ...
    @overload
    def new(self, cdecl: Literal["struct tcp_end_key *"], init: Any = ...) -> struct_tcp_end_key: ...
    @overload
    def new(self, cdecl: Literal["struct tcp_gap *"], init: Any = ...) -> struct_tcp_gap: ...
    @overload
    def new(self, cdecl: Literal["struct tcp_missed *"], init: Any = ...) -> struct_tcp_missed: ...
    @overload
    def new(self, cdecl: Literal["struct tcp_path *"], init: Any = ...) -> struct_tcp_path: ...
    @overload
    def new(self, cdecl: Literal["struct tcp_path_key *"], init: Any = ...) -> struct_tcp_path_key: ...
    @overload
    def new(self, cdecl: Literal["struct tcp_sample *"], init: Any = ...) -> struct_tcp_sample: ...
    @overload
    def new(self, cdecl: Literal["struct tcp_way *"], init: Any = ...) -> struct_tcp_way: ...
    @overload
    def new(self, cdecl: Literal["struct terminal_modes *"], init: Any = ...) -> struct_terminal_modes: ...
    @overload
    def new(self, cdecl: Literal["struct xt_btf *"], init: Any = ...) -> struct_xt_btf: ...
    @overload
    def new(self, cdecl: Literal["struct xt_ethtool_gstrings *"], init: Any = ...) -> struct_xt_ethtool_gstrings: ...
    @overload
    def new(self, cdecl: Literal["struct xt_ethtool_sset_info *"], init: Any = ...) -> struct_xt_ethtool_sset_info: ...
    @overload
    def new(self, cdecl: Literal["struct xt_ethtool_stats *"], init: Any = ...) -> struct_xt_ethtool_stats: ...
    @overload
    def new(self, cdecl: Literal["struct xt_ethtool_value *"], init: Any = ...) -> struct_xt_ethtool_value: ...
    @overload
    def new(self, cdecl: Literal["struct xt_flow_lines *"], init: Any = ...) -> struct_xt_flow_lines: ...
    @overload
    def new(self, cdecl: Literal["struct xt_link_info *"], init: Any = ...) -> struct_xt_link_info: ...
    @overload
    def new(self, cdecl: Literal["struct xt_map_create *"], init: Any = ...) -> struct_xt_map_create: ...
    @overload
    def new(self, cdecl: Literal["struct xt_names *"], init: Any = ...) -> struct_xt_names: ...
    @overload
    def new(self, cdecl: Literal["struct xt_prog_info *"], init: Any = ...) -> struct_xt_prog_info: ...
    @overload
    def new(self, cdecl: Literal["struct xt_prog_load *"], init: Any = ...) -> struct_xt_prog_load: ...
    @overload
    def new(self, cdecl: Literal["struct xt_tcp_samples *"], init: Any = ...) -> struct_xt_tcp_samples: ...
    @overload
    def new(self, cdecl: Literal["struct xt_test_run *"], init: Any = ...) -> struct_xt_test_run: ...
    @overload
    def new(self, cdecl: Literal["struct xt_text *"], init: Any = ...) -> struct_xt_text: ...
    @overload
    def new(self, cdecl: Literal["struct xt_uprobes *"], init: Any = ...) -> struct_xt_uprobes: ...
    @overload
    def new(self, cdecl: str, init: Any = ...) -> Any: ...

class _Lib:
    COMPLETED_AT_ONCE: int
    DEFAULT_MAX_FLOWS: int
    ECN_CE_COUNT: int
    ECN_DSCP_SHIFT: int
    FLOW_EGRESS: int
    FLOW_FRAGMENT: int
    FLOW_HAS_SRC_QPN: int
    FLOW_INNER: int
    FLOW_LATER_FRAGMENT: int
    FLOW_ROCE_V1: int
    FLOW_ROCE_V2: int
    FRAGMENTED_DATAGRAMS: int
    LINK_LAYER_ETHERNET: int
    LINK_LAYER_IP: int
    LINK_LAYER_IPOIB: int
    LINK_LAYER_NONE: int
    MAX_NETWORKS: int
    NCCL_ALL_GATHER: int
    NCCL_ALL_GATHER_CONFIG: int
    NCCL_ALL_REDUCE: int
    NCCL_ALL_REDUCE_CONFIG: int
    NCCL_ALL_TO_ALL: int
    NCCL_ALL_TO_ALL_CONFIG: int
    NCCL_BCAST: int
    NCCL_BROADCAST: int
    NCCL_BROADCAST_CONFIG: int
    NCCL_COMM_ABORT: int
    NCCL_COMM_COUNT: int
    NCCL_COMM_CU_DEVICE: int
    NCCL_COMM_DESTROY: int
    NCCL_COMM_FINALIZE: int
    NCCL_COMM_GET_ASYNC_ERROR: int
    NCCL_COMM_GROW: int
    NCCL_COMM_INIT_ALL: int
    NCCL_COMM_INIT_RANK: int
    NCCL_COMM_INIT_RANK_CONFIG: int
    NCCL_COMM_INIT_RANK_SCALABLE: int
    NCCL_COMM_SHRINK: int
    NCCL_COMM_SPLIT: int
    NCCL_COMM_USER_RANK: int
    NCCL_EVERYBODY: int
    NCCL_FILES: int
    NCCL_FIRST_BUCKET_BITS: int
    NCCL_FUNCTIONS: int
    NCCL_GATHER: int
    NCCL_GATHER_CONFIG: int
    NCCL_GROUP_END: int
    NCCL_GROUP_START: int
    NCCL_LATENCY_BUCKETS: int
    NCCL_LEAST_KEYS: int
    NCCL_MARKS: int
    NCCL_MAX_DEPARTED: int
    NCCL_MAX_KEYS: int
    NCCL_MAX_PEERS: int
    NCCL_MOST_DEVICES: int
    NCCL_MOST_KEYS: int
    NCCL_MOST_PENDING: int
    NCCL_NO_DATATYPE: int
    NCCL_NO_DEVICE: int
    NCCL_NO_RANK: int
    NCCL_NO_ROOT: int
    NCCL_OTHER_RESULT: int
    NCCL_PROCESS: int
    NCCL_PROCESS_KEYS: int
    NCCL_PUT_SIGNAL: int
    NCCL_RECV: int
    NCCL_REDUCE: int
    NCCL_REDUCE_CONFIG: int
    NCCL_REDUCE_SCATTER: int
    NCCL_REDUCE_SCATTER_CONFIG: int
    NCCL_RESULTS: int
    NCCL_SCATTER: int
    NCCL_SCATTER_CONFIG: int
    NCCL_SEND: int
    NCCL_SIGNAL: int
    NCCL_UNIQUE_ID_BYTES: int
    NCCL_USER: int
    NCCL_USER_COMMUNICATORS: int
    NCCL_USER_KEYS: int
    NCCL_WAIT_SIGNAL: int
    OWNER_CGROUP: int
    OWNER_CREATED: int
    OWNER_FOUND: int
    OWNER_HELD: int
    OWNER_KERNEL: int
    OWNER_LISTENED: int
    OWNER_LISTENER: int
    OWNER_MOST_ASKED: int
    OWNER_MOST_KNOWN: int
    OWNER_NOT_LOCAL: int
    OWNER_SOCKET: int
    OWNER_STATE_ESTABLISHED: int
    OWNER_STATE_LISTEN: int
    OWNER_STATE_SYN_RECV: int
    OWNER_STATE_TIME_WAIT: int
    OWNER_UNKNOWN: int
    QPN_BITS: int
    QPN_MASK: int
    RECENT_FLOWS: int
    TAG_LOW_BITS: int
    TAG_MASK: int
    TCP_BUFFER_LIMITED: int
    TCP_BUSY: int
    TCP_BYTES_ACKED: int
    TCP_BYTES_RECEIVED: int
    TCP_BYTES_RETRANSMITTED: int
    TCP_BYTES_SENT: int
    TCP_CA_STATE: int
    TCP_CLOSED: int
    TCP_CWND: int
    TCP_DATA_RECEIVED: int
    TCP_DATA_SENT: int
    TCP_DELIVERED: int
    TCP_DELIVERED_CE: int
    TCP_DELIVERY_RATE: int
    TCP_DESTROYED: int
    TCP_DUMPED: int
    TCP_DUPLICATES: int
    TCP_GAPS: int
    TCP_HANDSHAKE_ANSWERED: int
    TCP_HANDSHAKE_DONE: int
    TCP_HANDSHAKE_SYN: int
    TCP_HANDSHAKE_UNSEEN: int
    TCP_LOST: int
    TCP_MAX_CLOSERS: int
    TCP_MAX_ENDS: int
    TCP_MAX_NAMESPACES: int
    TCP_MIN_RTT: int
    TCP_NOT_SENT: int
    TCP_OPENER_HIGH: int
    TCP_OPENER_LOW: int
    TCP_OUT_OF_ORDER: int
    TCP_PACING: int
    TCP_PIECES: int
    TCP_PROBES: int
    TCP_RAW_BYTES: int
    TCP_RECEIVER_LIMITED: int
    TCP_RECEIVER_RTT: int
    TCP_RECEIVE_WINDOW: int
    TCP_REORDERED: int
    TCP_RETRANSMITTED: int
    TCP_RTO: int
    TCP_RTT: int
    TCP_RTT_VARIANCE: int
    TCP_SEGMENTS_RECEIVED: int
    TCP_SEGMENTS_SENT: int
    TCP_SEND_MSS: int
    TCP_SEND_WINDOW: int
    TCP_SSTHRESH: int
    TCP_STATE_CLOSE: int
    TCP_STATE_CLOSE_WAIT: int
    TCP_STATE_ESTABLISHED: int
    TCP_STATE_FIN_WAIT1: int
    TCP_STATE_FIN_WAIT2: int
    TCP_STATE_LAST_ACK: int
    TCP_STATE_SYN_SENT: int
    TCP_TIMEOUTS: int
    TCP_UNACKED: int
    TCP_UNREAD: int
    TCP_VALUES: int
    TCP_WAY_CLOSED: int
    TCP_WAY_HAS_ACK: int
    TCP_WAY_HAS_FIN: int
    TCP_WAY_HAS_SYN: int
    TCP_WAY_PLACED: int
    TRAFFIC_ARP: int
    TRAFFIC_ICMP: int
    TRAFFIC_OTHER: int
    TRAFFIC_ROCE_V1_IBOE: int
    TRAFFIC_ROCE_V2: int
    TRAFFIC_SCTP: int
    TRAFFIC_TCP: int
    TRAFFIC_TYPES: int
    TRAFFIC_UDP: int
    TUNNEL_GENEVE: int
    TUNNEL_GRE: int
    TUNNEL_GRE_KEY: int
    TUNNEL_GTP: int
    TUNNEL_IP6TNL: int
    TUNNEL_IPIP: int
    TUNNEL_KINDS: int
    TUNNEL_MPLS: int
    TUNNEL_NONE: int
    TUNNEL_PPPOE: int
    TUNNEL_SHIFT: int
    TUNNEL_SIT: int
    TUNNEL_VXLAN: int
    VERSION_SHIFT: int
    XT_LINES_DONE: int
    XT_LINES_FULL: int
    XT_LINES_NEED_ENTRIES: int
    XT_LINES_NEED_ORIGIN: int
    XT_LINES_NEED_OWNER: int
    XT_LINE_LENGTH: int
    XT_NO_FILTER: int
    XT_TERMINAL_CHARACTERS: int
    def xt_add_recent(self, entries: struct_flow_entry, first: int, count: int, recent: struct_recent_flow, /) -> None: ...
    def xt_ascends(self, indexes: Any, count: int, /) -> int: ...
    def xt_become(self, user: int, group: int, groups: Any, count: int, /) -> int: ...
    def xt_btf_find_types(self, btf: struct_xt_btf, /) -> int: ...
    def xt_btf_load(self, btf: Any, size: int, log_buf: Any, log_size: int, /) -> int: ...
    def xt_btf_type(self, btf: struct_xt_btf, kind: int, name: Any, /) -> int: ...
    def xt_clear(self, memory: Any, size: int, /) -> None: ...
    def xt_close(self, fd: int, /) -> int: ...
    def xt_confine(self, ruleset_fd: int, capabilities: int, /) -> int: ...
    def xt_ethtool(self, interface: Any, request: Any, length: int, /) -> int: ...
    def xt_filtered_call_address(self) -> int: ...
    def xt_filtered_child(self) -> int: ...
    def xt_find_flows(self, entries: struct_flow_entry, owners: struct_flow_owner, count: int, search: struct_flow_search, found: Any, /) -> int: ...
    def xt_find_owner(self, sums: struct_owner_sum, owner: struct_flow_owner, index: Any, places: int, /) -> int: ...
    def xt_find_unused(self, entries: struct_flow_entry, first: int, count: int, unused: Any, /) -> int: ...
    def xt_flow_details(self, entry: struct_flow_entry, names: struct_xt_names, has_message: int, out: Any, /) -> int: ...
    def xt_flow_lines(self, lines: struct_xt_flow_lines, /) -> int: ...
    def xt_from_batch(self, entries: struct_flow_entry, keys: struct_flow_key, values: struct_flow_counters, count: int, /) -> None: ...
    def xt_guard_terminal(self, keyboard: int, screen: int, dismissal: int, modes: struct_terminal_modes, leave: Any, length: int, /) -> int: ...
    def xt_index_flows(self, entries: struct_flow_entry, first: int, count: int, next: Any, indexes: Any, /) -> None: ...
    def xt_keep_capabilities(self, capabilities: int, /) -> int: ...
    def xt_landlock_allow(self, ruleset_fd: int, directory_fd: int, access: int, /) -> int: ...
    def xt_landlock_create(self, handled: int, /) -> int: ...
    def xt_landlock_restrict(self, ruleset_fd: int, /) -> int: ...
    def xt_landlock_version(self) -> int: ...
    def xt_largest(self, entries: struct_flow_entry, chosen: Any, count: int, room: int, ranked: struct_ranked_flow, largest: Any, /) -> None: ...
    def xt_link_create(self, prog_fd: int, target_ifindex: int, attach_type: int, flags: int, /) -> int: ...
    def xt_link_create_uprobes(self, prog_fd: int, request: struct_xt_uprobes, /) -> int: ...
    def xt_link_detach(self, link_fd: int, /) -> int: ...
    def xt_map_create(self, request: struct_xt_map_create, /) -> int: ...
    def xt_map_delete(self, map_fd: int, key: Any, /) -> int: ...
    def xt_map_freeze(self, map_fd: int, /) -> int: ...
    def xt_map_lookup(self, map_fd: int, key: Any, value: Any, /) -> int: ...
    def xt_map_lookup_and_delete_batch(self, map_fd: int, in_batch: Any, out_batch: Any, keys: Any, values: Any, count: Any, /) -> int: ...
    def xt_map_lookup_batch(self, map_fd: int, in_batch: Any, out_batch: Any, keys: Any, values: Any, count: Any, elem_flags: int, /) -> int: ...
    def xt_map_mmap(self, map_fd: int, length: int, offset: int, address: Any, /) -> int: ...
    def xt_map_update(self, map_fd: int, key: Any, value: Any, flags: int, /) -> int: ...
    def xt_merge_flows(self, entries: struct_flow_entry, owners: struct_flow_owner, count: int, index: Any, places: int, /) -> int: ...
    def xt_mount_cgroups(self) -> int: ...
    def xt_munmap(self, address: Any, length: int, /) -> int: ...
    def xt_netlink_open(self, protocol: int, groups: int, /) -> int: ...
    def xt_netlink_recv(self, fd: int, buffer: Any, length: int, flags: int, /) -> int: ...
    def xt_netlink_room(self, fd: int, bytes: int, /) -> int: ...
    def xt_netlink_send(self, fd: int, message: Any, length: int, /) -> int: ...
    def xt_no_new_privileges(self) -> int: ...
    def xt_obj_get_info(self, fd: int, info: Any, info_len: Any, /) -> int: ...
    def xt_open_cgroup(self, mount_fd: int, id: int, /) -> int: ...
    def xt_password_matches(self, password: Any, hash: Any, /) -> int: ...
    def xt_perf_event_open_uprobe(self, type: int, config: int, path: Any, offset: int, /) -> int: ...
    def xt_perf_event_set_bpf(self, event_fd: int, prog_fd: int, /) -> int: ...
    def xt_pidfd_getfd(self, pidfd: int, fd: int, /) -> int: ...
    def xt_pidfd_open(self, pid: int, /) -> int: ...
    def xt_prog_get_fd_by_id(self, id: int, /) -> int: ...
    def xt_prog_load(self, request: struct_xt_prog_load, /) -> int: ...
    def xt_prog_query(self, ifindex: int, attach_type: int, ids: Any, count: Any, /) -> int: ...
    def xt_prog_test_run(self, request: struct_xt_test_run, /) -> int: ...
    def xt_promiscuous(self, ifindex: int, /) -> int: ...
    def xt_rank_owners(self, sums: struct_owner_sum, count: int, ranks: struct_owner_rank, before: Any, index: Any, places: int, /) -> int: ...
    def xt_raw_tracepoint_open(self, prog_fd: int, name: Any, /) -> int: ...
    def xt_setns_net(self, fd: int, /) -> int: ...
    def xt_signalfd(self, signals: int, /) -> int: ...
    def xt_store_release(self, address: Any, value: int, /) -> None: ...
    def xt_sum_flows(self, entries: struct_flow_entry, first: int, count: int, sums: struct_place_sum, /) -> None: ...
    def xt_sum_owners(self, entries: struct_flow_entry, owners: struct_flow_owner, count: int, sums: struct_owner_sum, numbers: Any, index: Any, places: int, /) -> int: ...
    def xt_sum_places(self, sums: struct_owner_sum, before: Any, ranks: struct_owner_rank, count: int, at: struct_owner_sum, /) -> None: ...
    def xt_take_recent(self, entries: struct_flow_entry, recent: struct_recent_flow, /) -> int: ...
    def xt_tcp_read(self, datagram: Any, length: int, sequence: int, out: struct_xt_tcp_samples, /) -> int: ...
    def xt_timerfd(self, period_ns: int, /) -> int: ...
    def xt_version(self) -> Any: ...

ffi: _FFI
lib: _Lib
