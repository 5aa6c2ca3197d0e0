// SPDX-License-Identifier: Apache-2.0
// A datastore URL taken apart: what K3s and kine accept, with their defaults (k3s-io/kine
// pkg/drivers/{pgsql,mysql}, go-sql-driver/mysql dsn.go, libpq's connection URIs).
//
//   postgres://user:pass@host:5432/db?sslmode=disable     also postgresql://; host1:1,host2:2
//   postgres:///db?host=/run/postgresql                   a socket's directory; %2Frun%2F... too
//   mysql://user:pass@tcp(host:3306)/db?tls=skip-verify   also mariadb://; nothing is decoded in
//   mysql://user:pass@unix(/run/mysqld/mysqld.sock)/db    user and password, as in Go's driver
//   mysql://user:p%40ss@host:3306/db                      as any URL: both are decoded
//
// Nothing after "://" means kine's defaults. IPv6 addresses stand in brackets.
#pragma once
#include "base/err.h"
#include "base/str.h"

struct kl_store_options;

enum kl_endpoint_kind { KL_ENDPOINT_POSTGRES, KL_ENDPOINT_MYSQL };

enum kl_endpoint_tls {
    KL_ENDPOINT_TLS_OFF,
    KL_ENDPOINT_TLS_PREFER,  // without a check; in the clear when the server has none
    KL_ENDPOINT_TLS_REQUIRE, // without a check
    KL_ENDPOINT_TLS_VERIFY,  // the certificate's chain and the host's name
};

struct kl_endpoint_param {
    char *name, *value;
};

// Strings that were not given are NULL.
struct kl_endpoint {
    enum kl_endpoint_kind kind;
    char *user, *password;
    char *host, *port; // PostgreSQL: maybe lists with commas; a host that starts with / is the
                       // directory of a socket
    char *socket;      // MySQL: then host is NULL
    char *db;          // never NULL
    enum kl_endpoint_tls tls;
    char *cafile, *certfile, *keyfile;
    int connect_timeout_s; // 10 unless the URL says otherwise
    // PostgreSQL: what else libpq understands (sslmode among it: exactly what is to be given to
    // libpq), and `options` with the rest as settings of the session. MySQL: variables of the
    // session, their values as they stand in SQL.
    struct kl_endpoint_param *params;
    size_t nparams;
};

// `rest` is what follows "://". The options' files apply unless the URL names its own. KL_EINVALID
// with one sentence that holds no password.
int kl_endpoint_parse(enum kl_endpoint_kind kind, struct kl_str rest,
                      const struct kl_store_options *o, struct kl_endpoint *ret_e,
                      struct kl_error *err);
void kl_endpoint_fini(struct kl_endpoint *e); // wipes the password
// "host:3306/db", "unix(/run/mysqld/mysqld.sock)/db": for messages. Returns ret.
const char *kl_endpoint_name(const struct kl_endpoint *e, char *ret, size_t cap);

// Any datastore URL as messages and logs may show it: passwords are xxxxx, in doubt more than the
// password. Cut at cap. Returns ret.
const char *kl_endpoint_redact(const char *url, char *ret, size_t cap);
