"""A courier's parcels, kept in memory: a gRPC service that knows nothing of the gateway in front of it."""

import argparse
import threading
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

parcels_pb2, parcels_pb2_grpc = grpc.protos_and_services("parcels.proto")
State = parcels_pb2.Parcel.State
NAME = parcels_pb2.DESCRIPTOR.services_by_name["ParcelService"].full_name


class Parcels(parcels_pb2_grpc.ParcelServiceServicer):
    def __init__(self):
        self.parcels = {}
        self.changed = threading.Condition()

    def CreateParcel(self, request, context):
        if not request.address:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a parcel needs an address")
        if not 1 <= request.grams <= 30_000:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a parcel weighs 1 to 30,000 grams")
        with self.changed:
            parcel = parcels_pb2.Parcel(id=f"P{len(self.parcels) + 1:04}", address=request.address, grams=request.grams)
            self.parcels[parcel.id] = parcel
            return self.move(parcel, State.ACCEPTED, "counter")

    def GetParcel(self, request, context):
        with self.changed:
            return self.find(request.id, context)

    def ListParcels(self, request, context):
        with self.changed:
            chosen = [p for p in self.parcels.values() if request.state in (State.STATE_UNSPECIFIED, p.state)]
            return parcels_pb2.ListParcelsResponse(parcels=chosen)

    def MoveParcel(self, request, context):
        with self.changed:
            parcel = self.find(request.id, context)
            if parcel.state == State.DELIVERED:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{parcel.id} was delivered")
            return self.move(parcel, State.DELIVERED if request.delivered else State.ON_ITS_WAY, request.place)

    def FollowParcel(self, request, context):
        seen = None
        while context.is_active():
            with self.changed:
                parcel = self.find(request.id, context)
                if parcel.updated_at == seen:
                    self.changed.wait(timeout=1)
                    continue
                seen = parcel.updated_at
            yield parcel
            if parcel.state == State.DELIVERED:
                return

    def find(self, id, context):
        if id not in self.parcels:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no parcel {id}")
        return self.parcels[id]

    def move(self, parcel, state, place):
        """Puts a new parcel in the old one's place: whoever reads the old one goes on reading it."""
        moved = parcels_pb2.Parcel()
        moved.CopyFrom(parcel)
        moved.state, moved.place = state, place
        moved.updated_at.GetCurrentTime()
        self.parcels[parcel.id] = moved
        self.changed.notify_all()
        return moved


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=50051)
    port = arguments.parse_args().port
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
    parcels_pb2_grpc.add_ParcelServiceServicer_to_server(Parcels(), server)
    status = health.HealthServicer()
    status.set(NAME, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    reflection.enable_server_reflection([NAME, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    if server.add_insecure_port(f"127.0.0.1:{port}") != port:
        raise SystemExit(f"port {port} is taken")
    server.start()
    print(f"parcels on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
