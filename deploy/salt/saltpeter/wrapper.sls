# Installs sp_wrapper, which runs Saltpeter's commands. Pillar, all optional:
#   saltpeter:
#     wrapper:
#       path: /usr/local/bin/sp_wrapper
#       source: salt://saltpeter/files/sp_wrapper-linux-{arch}   # or https://...; {arch} is amd64 or arm64, {version} the one below
#       source_hash: ...                                         # of an https source; also a URL of a list of hashes
#       version: 1.2.3                                           # only takes the place of {version}
#       user: root
#       group: root
{%- set conf = salt['pillar.get']('saltpeter:wrapper', {}) or {} %}
{%- set path = conf.get('path', '/usr/local/bin/sp_wrapper') %}
{%- set arches = {'x86_64': 'amd64', 'amd64': 'amd64', 'aarch64': 'arm64', 'arm64': 'arm64'} %}
{%- set arch = arches.get(grains.get('osarch')) or arches.get(grains.get('cpuarch')) %}
{%- set source = conf.get('source', 'salt://saltpeter/files/sp_wrapper-linux-{arch}') %}

{%- if not arch or grains.get('kernel') != 'Linux' %}

sp_wrapper:
  test.fail_without_changes:
    - name: there is no sp_wrapper for {{ grains.get('kernel') }} on {{ grains.get('cpuarch') }} (Linux on amd64 and arm64 only)

{%- else %}

sp_wrapper:
  file.managed:
    - name: {{ path | tojson }}
    - source: {{ source | replace('{arch}', arch) | replace('{version}', conf.get('version', '') | string) | tojson }}
    {%- if conf.get('source_hash') %}
    - source_hash: {{ conf.source_hash | tojson }}
    {%- endif %}
    - user: {{ conf.get('user', 'root') | tojson }}
    - group: {{ conf.get('group', 'root') | tojson }}
    - mode: '0755'
    - makedirs: True

# A file for another machine, or on a file system without execution, is noticed here and not at the first run.
sp_wrapper works:
  cmd.run:
    - name: {{ (path | quote ~ ' version') | tojson }}
    - onchanges:
      - file: sp_wrapper

{%- endif %}
