// SPDX-License-Identifier: GPL-2.0-or-later
/* What was of late, over the control socket: series for charts, and the last events. The status page asks for the same. */
#include "daemon/control_priv.h"
#include "daemon/history.h"
#include "daemon/run.h"

enum MHD_Result control_get_history(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	const struct run *run = c->host.run;
	const struct service *sv = NULL;

	if (!run)
		return control_no_services(conn);
	if (req->args[0][0] && !(sv = services_find(run->services, req->args[0])))
		return control_no_service(conn, req);
	return control_reply(conn, MHD_HTTP_OK, history_series_json(run->history, sv));
}

enum MHD_Result control_get_recent(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	(void)req;
	return c->host.run ? control_reply(conn, MHD_HTTP_OK, history_events_json(c->host.run->history)) :
			     control_no_services(conn);
}

enum MHD_Result control_get_changes(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	(void)req;
	return c->host.run ? control_reply(conn, MHD_HTTP_OK, history_changes_json(c->host.run->history)) :
			     control_no_services(conn);
}
