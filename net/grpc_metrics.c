// SPDX-License-Identifier: Apache-2.0
// What a gRPC server counted, as dashboards of etcd look for it.
#include "net/grpc_int.h"

static const char *const code_names[KL_GRPC_CODES] = {
    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"};

static void put_head(struct kl_buf *out, const char *name, const char *help)
{
    kl_buf_printf(out, "# HELP %s %s\n# TYPE %s counter\n", name, help, name);
}

static void put_series(struct kl_buf *out, const char *name, const struct kl_grpc_slot *slot,
                       const char *code, const atomic_llong *value)
{
    struct kl_str service = kl_str_from(slot->path, 1), method;
    ptrdiff_t slash = kl_str_chr(service, '/');
    method = kl_str_from(service, (size_t)slash + 1);
    service.n = (size_t)slash;
    kl_buf_printf(out, "%s{", name);
    if (code)
        kl_buf_printf(out, "grpc_code=\"%s\",", code);
    kl_buf_printf(out, "grpc_method=\"%.*s\",grpc_service=\"%.*s\",grpc_type=\"%s\"} %lld\n",
                  KL_PRI(method), KL_PRI(service),
                  slot->m->client_stream ? "bidi_stream"
                  : slot->m->ready       ? "server_stream"
                                         : "unary",
                  atomic_load_explicit(value, memory_order_relaxed));
}

// OK always, and of the other codes those that came.
static void put_handled(struct kl_buf *out, const struct kl_grpc_slot *slot)
{
    for (int code = 0; code < KL_GRPC_CODES; code++)
        if (!code || atomic_load_explicit(&slot->handled[code], memory_order_relaxed))
            put_series(out, "grpc_server_handled_total", slot, code_names[code],
                       &slot->handled[code]);
}

void kl_grpc_server_write_metrics(const struct kl_grpc_server *s, struct kl_buf *out)
{
    put_head(out, "grpc_server_started_total", "Calls that began.");
    for (size_t i = 0; i < s->nslots; i++)
        put_series(out, "grpc_server_started_total", &s->slots[i], NULL, &s->slots[i].started);
    put_head(out, "grpc_server_handled_total", "Calls that ended, by their code.");
    for (size_t i = 0; i < s->nslots; i++)
        put_handled(out, &s->slots[i]);
    put_head(out, "grpc_server_msg_received_total", "Messages received.");
    for (size_t i = 0; i < s->nslots; i++)
        put_series(out, "grpc_server_msg_received_total", &s->slots[i], NULL,
                   &s->slots[i].received);
    put_head(out, "grpc_server_msg_sent_total", "Messages sent.");
    for (size_t i = 0; i < s->nslots; i++)
        put_series(out, "grpc_server_msg_sent_total", &s->slots[i], NULL, &s->slots[i].sent);
    long long received = 0, sent = 0;
    for (size_t i = 0; i < s->nslots; i++) {
        received += atomic_load_explicit(&s->slots[i].received_bytes, memory_order_relaxed);
        sent += atomic_load_explicit(&s->slots[i].sent_bytes, memory_order_relaxed);
    }
    put_head(out, "etcd_network_client_grpc_received_bytes_total", "Bytes of clients' messages.");
    kl_buf_printf(out, "etcd_network_client_grpc_received_bytes_total %lld\n", received);
    put_head(out, "etcd_network_client_grpc_sent_bytes_total", "Bytes of messages to clients.");
    kl_buf_printf(out, "etcd_network_client_grpc_sent_bytes_total %lld\n", sent);
}
