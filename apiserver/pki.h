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
    const char *token;       // NULL: kept or made
    uint64_t server_id;      // for the certificate of this server among its peers; 0: none
    const char *agent_token; // NULL: the token is good for agents too
};

// PEM texts, NUL-terminated, and the token. One block; never logged.
struct kl_pki {
    struct kl_str server_ca, server_ca_key;                    // signs serving certificates
    struct kl_str client_ca, client_ca_key;                    // signs client certificates
    struct kl_str serving_cert, serving_key;                   // of the API server
    struct kl_str admin_cert, admin_key;                       // system:masters
    struct kl_str apiserver_client_cert, apiserver_client_key; // to kubelets: system:apiserver
    struct kl_str kubelet_serving_cert, kubelet_serving_key;   // of this node
    struct kl_str peer_ca, peer_ca_key; // signs the servers' certificates to each other
    struct kl_str peer_cert, peer_key;  // of this server: kinglet://peer/ID; empty: no id
    // The CA that aggregated API servers trust to say who asks, and this server's certificate of
    // it: system:auth-proxy. No client of the cluster has one.
    struct kl_str front_proxy_ca, front_proxy_ca_key, front_proxy_cert, front_proxy_key;
    struct kl_str service_key;    // signs ServiceAccount tokens (EC P-256)
    struct kl_str token;          // K10<sha256 of CA>::server:<secret>
    uint64_t cluster_id;          // random, not 0
    bool made;                    // the CA was made by this call
    int64_t renew_s;              // Unix time at which the first certificate is due
    struct kl_str cluster_domain; // names the issuer of tokens; empty: cluster.local
    struct kl_arena arena;
};

// KL_EUNAUTHORIZED: the token names another CA.
int kl_pki_open(const struct kl_pki_options *o, struct kl_pki **ret, struct kl_error *err);
void kl_pki_free(struct kl_pki *p); // wipes the keys

// Nothing on the disk: a CA for servers and clients, certificates of the API server (for localhost,
// 127.0.0.1 and these names, NULL-ended or NULL) and of the admin, a key for tokens.
int kl_pki_make_memory(const char *const *names, struct kl_pki **ret, struct kl_error *err);

// What upstream's flags name; each may be NULL but cert_dir (when cert or key is) and service_key.
struct kl_pki_files {
    const char *cert, *key;   // of the API server
    const char *cert_dir;     // or apiserver.crt and .key in it, which are made when missing,
    const char *const *names; // for these names
    const char *client_ca;
    const char *service_key; // signs ServiceAccount tokens
    const char *kubelet_ca, *kubelet_cert, *kubelet_key;
};
int kl_pki_from_files(const struct kl_pki_files *f, struct kl_pki **ret, struct kl_error *err);
// The secret of "K10<hash>::server:<secret>" or of a bare one. *ret_hash (may be NULL): of the CA,
// empty when the token is a bare one.
struct kl_str kl_token_secret(struct kl_str token, struct kl_str *ret_hash);
// hex(sha256(PEM of the CA)): of a bundle the last certificate, as K3s' join token has it. All the
// others must be CAs that it signed, each the one before it: who trusts the hash trusts the bundle.
// KL_EINVALID: they are not.
int kl_ca_hash(struct kl_str ca_pem, char ret[65], struct kl_error *err);
// A client certificate for a user and groups (NULL-ended or NULL), valid for a year; the PEM texts
// go into the arena.
int kl_pki_client_cert(const struct kl_pki *p, struct kl_arena *a, const char *user,
                       const char *const *groups, struct kl_str *ret_cert, struct kl_str *ret_key,
                       struct kl_error *err);
// Writes an admin kubeconfig (mode 0600, atomically) for https://host:port.
int kl_pki_write_kubeconfig(const struct kl_pki *p, const char *path, const char *host, int port,
                            struct kl_error *err);
