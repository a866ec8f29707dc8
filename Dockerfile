# The image holds one static binary, the public roots and two directories.
#
#   docker build -t usher .
#   docker compose -f deploy/compose.yaml up -d
#
# BASE needs a shell, Go and, to give the binary its capability, setcap or apt.
ARG BASE=docker.io/library/golang:1.26-bookworm

FROM ${BASE} AS build
RUN command -v setcap || { apt-get update && apt-get install -y --no-install-recommends libcap2-bin; }
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /usher ./cmd/usher
# The process is nobody in particular; this is what lets it open ports 80 and
# 443 all the same. It is set last, since changing the owner would remove it.
RUN setcap cap_net_bind_service=+ep /usher
RUN mkdir -p /empty

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /usher /usr/local/bin/usher
# Mount the directory that holds config.toml here, not the file alone: editors
# and tools save by renaming a new file over the old one, and a mounted file
# would go on showing the old one for ever.
COPY --from=build --chown=65532:65532 /empty /etc/usher
# Certificates, ACME accounts and the local CA. Losing it means asking for every
# certificate again, so it is a volume.
COPY --from=build --chown=65532:65532 /empty /var/lib/usher
# The admin socket.
COPY --from=build --chown=65532:65532 /empty /run/usher
ENV PATH=/usr/local/bin USHER_CONFIG=/etc/usher/config.toml
VOLUME /var/lib/usher
EXPOSE 80 443 443/udp
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/usher", "status"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/usher"]
CMD ["run"]
