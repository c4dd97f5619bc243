"""Between the log's values and ``AuditService``: the only module here that touches the stubs."""

from __future__ import annotations

from typing import Final

from probegate.audit.v1 import audit_service_pb2 as pb
from probegate.audit.v1 import audit_service_pb2_grpc

from audit.opening import PURPOSES as _PURPOSES

AuditServicerBase = audit_service_pb2_grpc.AuditServiceServicer
register_audit = audit_service_pb2_grpc.add_AuditServiceServicer_to_server
SERVICE: Final = pb.DESCRIPTOR.services_by_name["AuditService"].full_name

GetCheckpointRequest = pb.GetCheckpointRequest
GetCheckpointResponse = pb.GetCheckpointResponse
ListEntriesRequest = pb.ListEntriesRequest
ListEntriesResponse = pb.ListEntriesResponse
GetInclusionProofRequest = pb.GetInclusionProofRequest
GetInclusionProofResponse = pb.GetInclusionProofResponse
GetConsistencyProofRequest = pb.GetConsistencyProofRequest
GetConsistencyProofResponse = pb.GetConsistencyProofResponse

LOG_NAMES: Final = {pb.LOG_NAME_SEARCH: "search", pb.LOG_NAME_ADMIN: "admin"}
PURPOSES: Final = {pb.ReadPurpose.Value(f"READ_PURPOSE_{one.upper()}"): one for one in _PURPOSES}
"""The four purposes a log may be read for, as the wire names them; there is no other."""
