// SPDX-License-Identifier: Apache-2.0
// The flags of kube-apiserver that are not behaviour of the API server alone (those:
// cli/api_flags.h): where it listens, its datastore, and what means nothing here. Together they are
// all that kube-apiserver 1.36 knows.
#pragma once
#include "cli/flags.h"

struct kl_kube_apiserver_flags {
    const char *bind_address, *advertise_address, *cert_dir, *cert_file, *key_file, *service_cidr;
    const char *etcd_prefix, *etcd_cafile, *etcd_certfile, *etcd_keyfile;
    const char *const *etcd_servers;
    const char *storage_backend, *storage_media_type, *logging_format;
    int secure_port, v, loops;
    bool help, version;
};

extern const struct kl_flag kl_kube_apiserver_flags[];
extern const size_t kl_nkube_apiserver_flags;
