// SPDX-License-Identifier: Apache-2.0
// What servers that join ask, and `kinglet member`. All but /cacerts needs HTTP basic
// authentication with user "server" and the secret of the token, as K3s' supervisor.
//
//   GET    /cacerts                                 the CA of serving certificates; to anybody
//   GET    /v1-kinglet/bootstrap                    the identity (apiserver/identity.h)
//   GET    /v1-kinglet/members                      a line each: id role leader connected address
//   POST   /v1-kinglet/members?id=ID&address=A      adds a server; answers the list
//   PUT    /v1-kinglet/members?id=ID                promotes it
//   DELETE /v1-kinglet/members?id=ID
#pragma once
#include "apiserver/server_int.h"

bool kl_is_joining(struct kl_str path);
void kl_joining_run(struct kl_api_call *c); // ends the request
