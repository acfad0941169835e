#!/bin/sh
vip-manager --ip 10.2.0.5 \
    --netmask=24 --interface eth1 \
    --trigger-key "/service/pgcluster/leader" \
    --trigger-value \
    pgcluster_member1 \
    --dcs-type etcd --dcs-endpoints=http://127.0.0.1:2379 \
    --etcd-user patroni --etcd-password=hush \
    --verbose
