// SPDX-License-Identifier: Apache-2.0
// The cluster's certificates and keys (ECDSA P-256), kept under DATA/server/tls with K3s' file
// names, made at first start and taken as they are afterwards (files placed by the user before
// win).
#pragma once
#include "base/arena.h"
#include "base/err.h"

struct kl_pki_options {
    const char *data_dir;
    const char *node_name;
    const char *const *sans; // NULL-ended: further names and addresses of the serving certificate
    const char *service_ip;  // first address of the service range
    const char *cluster_domain;
    const char *token; // NULL: kept or made
};

// PEM texts, NUL-terminated, and the token. One block; never logged.
struct kl_pki {
    struct kl_str server_ca, server_ca_key;                    // signs serving certificates
    struct kl_str client_ca, client_ca_key;                    // signs client certificates
    struct kl_str serving_cert, serving_key;                   // of the API server
    struct kl_str admin_cert, admin_key;                       // system:masters
    struct kl_str apiserver_client_cert, apiserver_client_key; // to kubelets: system:apiserver
    struct kl_str kubelet_serving_cert, kubelet_serving_key;   // of this node
    struct kl_str service_key;    // signs ServiceAccount tokens (EC P-256)
    struct kl_str token;          // K10<sha256 of CA>::server:<secret>
    struct kl_str cluster_domain; // names the issuer of tokens; empty: cluster.local
    struct kl_arena arena;
};

int kl_pki_open(const struct kl_pki_options *o, struct kl_pki **ret, struct kl_error *err);
void kl_pki_free(struct kl_pki *p); // wipes the keys
// A client certificate for a user and groups (NULL-ended or NULL), valid for a year; the PEM texts
// go into the arena.
int kl_pki_client_cert(const struct kl_pki *p, struct kl_arena *a, const char *user,
                       const char *const *groups, struct kl_str *ret_cert, struct kl_str *ret_key,
                       struct kl_error *err);
// Writes an admin kubeconfig (mode 0600, atomically) for https://host:port.
int kl_pki_write_kubeconfig(const struct kl_pki *p, const char *path, const char *host, int port,
                            struct kl_error *err);
