"""From an upload's address to audio and cues: fetch, sandboxed decoding, captions.

    fetch ─► source ─► decoder ═pipe═ sandbox (its own process) ─► decode ─► audio
             web, network                demux, wire                └► captions, cues

Reasons of the errors raised here, stable for readers of the dead-letter topic:

    stage   reason                 kind       meaning
    fetch   file_not_found         permanent  no such file
    fetch   is_a_directory         permanent  a folder
    fetch   not_a_file             permanent  a device, pipe or socket
    fetch   not_permitted          permanent  outside media.roots, unreadable, or a host that is not public
    fetch   unsupported_scheme     permanent  neither a path nor file, http(s) or s3
    fetch   s3_endpoint_missing    permanent  s3:// while media.s3_endpoint is not set
    fetch   bad_url                permanent  an address that cannot be parsed
    fetch   empty_media            permanent  nothing in it
    fetch   too_large              permanent  more than media.max_bytes
    fetch   http_status            either     the server refused: 5xx, 408, 425 and 429 are worth a retry
    fetch   too_many_redirects     permanent  more than five hops
    fetch   unreachable            transient  no address, no connection, or no answer in HTTP
    fetch   fetch_timeout          transient  silent, or slower than 256 KiB per media.read_timeout_s
    fetch   connection_lost        transient  cut midway, and could not be resumed
    fetch   source_changed         transient  replaced while it was being read
    fetch   source_unreadable      transient  the file system failed
    fetch   no_space               transient  no room for the temporary copy
    decode  not_media              permanent  no container that is read here (a text file named .mp4)
    decode  no_streams             permanent  a container with nothing in it
    decode  truncated              permanent  cut off before a single second could be decoded
    decode  undecodable            permanent  broken before a single second could be decoded
    decode  unsupported_codec      permanent  no captions, and audio in a codec that is not read here
    decode  decoder_crashed        permanent  the decoder died or talked nonsense
    decode  decoder_hung           permanent  the decoder was silent for media.decode_timeout_s
    decode  decoder_out_of_memory  permanent  the file wanted more than media.decode_memory_bytes
"""
