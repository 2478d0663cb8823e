//! The reader of templates, fact by fact. Only `check_*` touch the API.

use super::*;

/// A whole template around what a test is about.
fn template_with(sections: &str) -> String {
    format!(
        "<template><name>t</name><os><name>Fedora</name><version>41</version><arch>x86_64</arch>\
         <install type='url'><url>http://example.org/os/</url></install></os>{sections}</template>"
    )
}

fn os_with(install: &str, others: &str) -> String {
    format!(
        "<template><name>t</name><os><name>Fedora</name><version>41</version><arch>x86_64</arch>\
         {install}{others}</os></template>"
    )
}

fn check_accepted(xml: &str) -> Template {
    Template::parse(xml, &TemplateRules::rest()).unwrap_or_else(|error| panic!("{error}\n{xml}"))
}

fn check_refused(xml: &str, expected: &str) {
    match Template::parse(xml, &TemplateRules::rest()) {
        Ok(_) => panic!("accepted, though: {expected}\n{xml}"),
        Err(error) => {
            assert!(error.to_string().contains(expected), "{error}\ndoes not say: {expected}");
            assert!(error.findings.iter().all(|finding| !finding.message.is_empty()));
        }
    }
}

#[test]
fn a_full_template_is_read_whole() {
    let template = check_accepted(
        "<?xml version='1.0' encoding='UTF-8'?>
        <!-- a comment -->
        <template version='1.0'>
          <disk><size> 20 GB </size></disk>
          <description>  What it is for  </description>
          <os>
            <install type='iso'>
              <iso>http://example.org/a.iso</iso>
              <sha256sum>http://example.org/SHA256SUMS</sha256sum>
              <extras>
                <file source='http://example.org/f' destination='a/f'/>
                <directory source='ftp://example.org/d/' destination='d'> </directory>
              </extras>
            </install>
            <arch>aarch64</arch><version>4</version><name>RHEL-9</name>
            <rootpw>secret</rootpw><key>KEY-1</key><kernelparam>net.ifnames=0</kernelparam>
            <icicle><extra_command>rpm -qa --qf x</extra_command></icicle>
          </os>
          <packages>
            <package name='httpd'/>
            <package name='vim'>
              <arguments>--nogpg</arguments><file>vim.rpm</file><repository>r</repository>
            </package>
          </packages>
          <repositories>
            <repository name='r'>
              <signed>YES</signed><url>http://example.org/r</url><persisted>False</persisted>
            </repository>
          </repositories>
          <files><file name='/etc/motd'>hello</file></files>
          <commands><command name='c'>echo &lt;a&gt;</command></commands>
          <precommands><command name='p' type='base64'>ZWNobyBh</command></precommands>
          <name>whole</name>
        </template>",
    );
    assert_eq!(template.name, "whole");
    assert_eq!(template.description.as_deref(), Some("What it is for"));
    assert_eq!(template.disk_size, Some(DiskSize::Bytes(20_000_000_000)));
    assert_eq!((template.os.name.as_str(), template.os.version.as_str()), ("RHEL-9", "4"));
    assert_eq!(template.os.arch, Arch::Aarch64);
    assert_eq!(template.os.rootpw.as_ref().map(|pw| pw.expose()), Some("secret"));
    assert_eq!(template.os.key.as_ref().map(|key| key.expose()), Some("KEY-1"));
    assert_eq!(template.os.kernelparam.as_deref(), Some("net.ifnames=0"));
    assert_eq!(template.os.icicle_extra_command.as_deref(), Some("rpm -qa --qf x"));
    let (iso, checksum, extras) = match &template.os.install {
        Install::Iso { iso, checksum, extras } => (iso, checksum.clone().unwrap(), extras),
        Install::Url { .. } => panic!("not an ISO"),
    };
    assert_eq!(iso, "http://example.org/a.iso");
    assert_eq!(checksum.kind, ChecksumKind::Sha256);
    assert_eq!(extras.len(), 2);
    assert_eq!(extras[1].kind, IsoExtraKind::Directory);
    assert_eq!(template.packages[1].arguments.as_deref(), Some("--nogpg"));
    assert_eq!(template.packages[1].repository.as_deref(), Some("r"));
    assert!(template.repositories[0].signed && !template.repositories[0].persisted);
    assert_eq!(template.files[0].bytes().unwrap(), b"hello");
    assert_eq!(template.commands[0].command, "echo <a>");
    assert_eq!(template.precommands[0].bytes().unwrap(), b"echo a");
}

#[test]
fn a_minimal_template_has_the_defaults() {
    let template = check_accepted(&template_with(
        "<repositories><repository name='r'><url>http://h/</url></repository></repositories>",
    ));
    let repository = &template.repositories[0];
    assert!(!repository.signed && repository.persisted && !repository.sslverify);
    assert_eq!(template.disk_size, None);
    assert!(template.commands.is_empty() && template.os.rootpw.is_none());
    assert!(!template.fetches_urls());
}

#[test]
fn every_finding_is_reported_with_its_place() {
    let error = Template::parse(
        "<template>\n  <nmae>x</nmae>\n  <os>\n    <name>F</name>\n    <arch>x86-64</arch>\n    \
         <install type='url'><url>http://h/</url></install>\n  </os>\n  <pakages/>\n</template>",
        &TemplateRules::rest(),
    )
    .unwrap_err();
    let shown: Vec<String> = error.findings.iter().map(|each| each.to_string()).collect();
    assert_eq!(
        shown,
        [
            "line 1:1: <template> has no <name>; add one",
            "line 2:3: <template> has no element <nmae>; it has <name> <description> <os> <disk> \
             <packages> <repositories> <files> <commands> <precommands>",
            "line 3:3: <os> has no <version>; add one",
            "line 5:5: \"x86-64\" is no architecture; did you mean x86_64?",
            "line 8:3: <template> has no element <pakages>; did you mean <packages>?",
        ]
    );
}

#[test]
fn names_that_are_not_of_the_language_are_refused() {
    check_refused("<html/>", "it must be <template>");
    check_refused("<template xmlns='urn:x'/>", "without a namespace");
    check_refused(&template_with("<services/>"), "no element <services>");
    check_refused(&template_with("<x:files xmlns:x='urn:y'/>"), "namespace \"urn:y\"");
    check_refused(&template_with("<packages><package/></packages>"), "lacks the attribute name");
    check_refused(
        &template_with("<packages><package naem='x' name='y'/></packages>"),
        "no attribute naem",
    );
    check_refused(&template_with("<packages nmae='x'/>"), "<packages> has no attributes");
    check_refused(&template_with("<packages>vim</packages>"), "text stands directly inside");
    check_refused(
        &template_with("<files><file name='x'>a<b/></file></files>"),
        "<file> holds text only",
    );
    check_refused(&template_with("<disk><size>1</size><size>2</size></disk>"), "a second <size>");
    check_refused(&template_with("<disk/>"), "<disk> has no <size>");
    check_refused(&template_with("<name>again</name>"), "a second <name>");
    check_refused("<template version='2.0'/>", "TDL version \"2.0\"");
    check_refused("<template version='0.9'/>", "TDL version \"0.9\"");
}

#[test]
fn an_install_is_a_url_or_an_iso_with_one_checksum() {
    check_accepted(&os_with("<install type='iso'><iso>http://h/a</iso></install>", ""));
    check_refused(&os_with("<install><url>http://h/</url></install>", ""), "type=\"url\"");
    check_refused(&os_with("<install type='net'><url>http://h/</url></install>", ""), "\"net\"");
    check_refused(&os_with("<install type='url'><iso>http://h/</iso></install>", ""), "<iso>");
    check_refused(
        &os_with(
            "<install type='iso'><iso>http://h/</iso><md5sum>http://h/m</md5sum>\
             <sha1sum>http://h/s</sha1sum></install>",
            "",
        ),
        "more than one of",
    );
    check_refused(
        &os_with("<install type='url'><url>http://h/</url><extras/></install>", ""),
        "<extras>",
    );
    check_refused(
        &os_with("<install type='iso'><iso>http://h/</iso><extras/></install>", ""),
        "<extras> is empty",
    );
    check_refused(
        &os_with(
            "<install type='iso'><iso>http://h/</iso><extras><file source='http://h/'/></extras>\
             </install>",
            "",
        ),
        "lacks the attribute destination",
    );
    check_refused(
        &os_with(
            "<install type='iso'><iso>http://h/</iso><extras>\
             <file source='http://h/' destination='x'>text</file></extras></install>",
            "",
        ),
        "attributes only",
    );
}

#[test]
fn contents_are_raw_unless_they_say_otherwise() {
    let files = |attributes: &str, content: &str| {
        template_with(&format!("<files><file name='/f' {attributes}>{content}</file></files>"))
    };
    let content = |xml: &str| check_accepted(xml).files[0].bytes();
    assert_eq!(content(&files("", "  a  b\n")), Some(b"a  b".to_vec()));
    assert_eq!(content(&files("type='raw'", "")), Some(Vec::new()));
    assert_eq!(content(&files("type='base64'", " ")), Some(Vec::new()));
    assert_eq!(content(&files("type='base64'", "aGk=")), Some(b"hi".to_vec()));
    assert_eq!(content(&files("type='url'", "http://h/f")), None);
    check_refused(&files("type='base64'", "a"), "is not base64");
    check_refused(&files("type='base64'", "aGkK\naGkK"), "on one line");
    check_refused(&files("type='url'", ""), "needs a URL");
    check_refused(&files("type='hex'", "00"), "known are raw, base64 and url");
}

#[test]
fn a_comment_or_a_cdata_section_does_not_cut_a_text_off() {
    let template = check_accepted(&template_with(
        "<commands><command name='c'>a <!-- why -->&amp;&amp; <![CDATA[b > c]]></command></commands>",
    ));
    assert_eq!(template.commands[0].command, "a && b > c");
}

#[test]
fn the_last_repository_and_the_last_file_of_a_name_count() {
    let template = check_accepted(&template_with(
        "<repositories><repository name='a'><url>http://h/1</url></repository>\
         <repository name='b'><url>http://h/2</url></repository>\
         <repository name='a'><url>http://h/3</url></repository></repositories>\
         <files><file name='f'>1</file><file name='f'>2</file></files>\
         <packages><package name='p'/><package name='p'/></packages>",
    ));
    let urls: Vec<&str> = template.repositories.iter().map(|each| each.url.as_str()).collect();
    assert_eq!(urls, ["http://h/3", "http://h/2"]);
    assert_eq!(template.files.len(), 1);
    assert_eq!(template.files[0].file, "2");
    assert_eq!(template.packages.len(), 2, "packages of one name add up");
}

#[test]
fn commands_run_as_written_or_by_position_but_not_by_both() {
    let commands = |positions: &[&str]| {
        let each = positions.iter().map(|position| match *position {
            "" => "<command name='none'>x</command>".to_owned(),
            _ => format!("<command name='{position}' position='{position}'>x</command>"),
        });
        template_with(&format!("<commands>{}</commands>", each.collect::<String>()))
    };
    let order = |positions: &[&str]| {
        let commands = check_accepted(&commands(positions)).commands;
        commands.into_iter().map(|command| command.name).collect::<Vec<_>>()
    };
    assert_eq!(order(&["2", "3", "1"]), ["1", "2", "3"]);
    assert_eq!(order(&["002", "1"]), ["1", "002"]);
    check_refused(&commands(&["1", "1"]), "is there already");
    check_refused(&commands(&["1", "3"]), "leaves a gap");
    check_refused(&commands(&["0", "1"]), "position 0");
    check_refused(&commands(&["1", ""]), "give all of them one, or none");
    check_refused(&commands(&["-1"]), "no whole number");
    check_refused(&commands(&["99999999999999999999999"]), "no whole number");
    check_refused(&template_with("<commands><command name='c'> </command></commands>"), "empty");
    check_refused(
        &template_with("<precommands><command name='c' position=''>x</command></precommands>"),
        "no whole number",
    );
    let both = "<commands><command name='c' position='1'>x</command></commands>\
                <precommands><command name='p' position='1'>x</command></precommands>";
    check_accepted(&template_with(both));
}

#[test]
fn switches_are_words_in_any_case() {
    let signed = |word: &str| {
        template_with(&format!(
            "<repositories><repository name='r'><url>http://h/</url><signed>{word}</signed>\
             </repository></repositories>"
        ))
    };
    for (word, value) in [("true", true), ("Yes", true), ("FALSE", false), ("nO", false)] {
        assert_eq!(check_accepted(&signed(word)).repositories[0].signed, value, "{word}");
    }
    check_refused(&signed("1"), "write true, false, yes or no");
    check_refused(&signed(""), "write true, false, yes or no");
}

#[test]
fn local_files_are_for_the_command_line_only() {
    for xml in [
        os_with("<install type='url'><url>file:///srv/tree</url></install>", ""),
        os_with("<install type='iso'><iso>/srv/a.iso</iso></install>", ""),
        os_with("<install type='iso'><iso>a.iso</iso></install>", ""),
        os_with("<install type='iso'><iso>http://h/a</iso><md5sum>file:/x</md5sum></install>", ""),
        os_with(
            "<install type='iso'><iso>http://h/a</iso><extras>\
             <file source='file:///etc/shadow' destination='x'/></extras></install>",
            "",
        ),
        template_with("<files><file name='f' type='url'>file:///etc/shadow</file></files>"),
        template_with("<commands><command name='c' type='url'>/etc/shadow</command></commands>"),
        template_with(
            "<repositories><repository name='r'><url>deb file:/srv ./</url></repository>\
             </repositories>",
        ),
    ] {
        check_refused(&xml, "a file of the factory's machine");
        Template::parse(&xml, &TemplateRules::command_line()).unwrap();
    }
    check_accepted(&template_with(
        "<repositories><repository name='r'><url>deb http://h/ ./</url></repository>\
         <repository name='l'><url>http://localhost/r</url></repository></repositories>",
    ));
}

#[test]
fn a_root_password_can_be_required() {
    let rules = TemplateRules { require_root_password: true, ..TemplateRules::rest() };
    let install = "<install type='url'><url>http://h/</url></install>";
    assert!(Template::parse(&os_with(install, "<rootpw>x</rootpw>"), &rules).is_ok());
    for without in ["", "<rootpw> </rootpw>"] {
        let error = Template::parse(&os_with(install, without), &rules).unwrap_err();
        assert!(error.to_string().contains("tdl_require_root_pw"), "{error}");
        check_accepted(&os_with(install, without));
    }
}

#[test]
fn passwords_show_in_the_json_and_nowhere_else() {
    let xml = os_with(
        "<install type='url'><url>http://u:hunter2@h/</url></install>",
        "<rootpw>hunter2</rootpw><key>hunter2</key>",
    );
    let template = check_accepted(&xml);
    assert!(!format!("{:?}", template.os.rootpw).contains("hunter2"));
    assert!(!format!("{template:?}").contains("hunter2"), "{template:?}");
    let json = template.to_json().unwrap();
    assert!(json.contains("\"rootpw\":\"hunter2\""), "{json}");
    let refused = xml.replace("http://", "file://").replace("<key>", "<key><b/>");
    let error = Template::parse(&refused, &TemplateRules::rest()).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn the_json_form_round_trips_and_is_closed() {
    let template = check_accepted(&template_with(
        "<disk><size>1 ZB</size></disk><commands><command name='c' position='1'>x</command>\
         </commands><files><file name='f' type='base64'>aGk=</file></files>",
    ));
    let json = template.to_json().unwrap();
    assert_eq!(Template::from_json(&json).unwrap(), template);
    assert!(json.contains("\"disk_size\":\"1000000000000000000000\""), "{json}");
    assert!(json.contains("\"install\":{\"type\":\"url\",\"url\":\"http://example.org/os/\"}"));
    assert!(json.contains("{\"name\":\"f\",\"type\":\"base64\",\"file\":\"aGk=\"}"), "{json}");
    assert!(Template::from_json(&json.replace("\"name\":\"t\"", "\"nom\":\"t\"")).is_err());
}

#[test]
fn a_hundred_thousand_levels_do_not_exhaust_a_small_stack() {
    let levels = 100_000;
    let deep = format!("<template>{}{}", "<os>".repeat(levels), "</os>".repeat(levels));
    let unlimited = TemplateLimits {
        bytes_max: usize::MAX,
        depth_max: usize::MAX,
        elements_max: usize::MAX,
        ..TemplateLimits::default()
    };
    let reader = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
        let whole = format!("{deep}</template>");
        let rules = TemplateRules { limits: unlimited, ..TemplateRules::rest() };
        let unlimited = Template::parse(&whole, &rules).unwrap_err();
        let limited = Template::parse(&deep, &TemplateRules::rest()).unwrap_err();
        (unlimited.to_string(), limited.to_string())
    });
    let (unlimited, limited) = reader.unwrap().join().unwrap();
    assert!(unlimited.contains("<os> has no element <os>"), "{unlimited}");
    assert!(limited.contains("deeper than 32"), "{limited}");
}

#[test]
fn a_dtd_is_refused_so_that_entities_cannot_grow_or_read_files() {
    check_refused(
        "<!DOCTYPE t [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><template>&a;</template>",
        "DTD",
    );
}

#[test]
fn an_inclusion_of_another_file_is_an_unknown_element() {
    check_refused(
        &template_with(
            "<xi:include xmlns:xi='http://www.w3.org/2001/XInclude' href='/etc/passwd'/>",
        ),
        "is not known here",
    );
}

#[test]
fn hostile_templates_are_refused_in_time() {
    let mib = 1 << 20;
    let many = |piece: &str| piece.repeat(mib / piece.len() - 200);
    let attributes: String = (0..60_000).map(|n| format!(" a{n}='1'")).collect();
    let namespaces: String = (0..20_000).map(|n| format!("<a xmlns:n{n}='u{n}'>")).collect();
    let started = std::time::Instant::now();
    for xml in [
        template_with(&format!("<files{attributes}/>")),
        namespaces,
        template_with(&format!("<files>{}</files>", many("<x/>"))),
        template_with(&format!("<description>{}</description>", many("<![CDATA[a]]>"))),
        template_with(&many("&amp;")),
        template_with(&format!("<packages>{}</packages>", many("<package name='p'/>"))),
        many("<!---->"),
        template_with(&format!("{}{}", " ".repeat(mib / 2), "<x/>".repeat(45_000))),
        many("\n<"),
    ] {
        // Verdicts differ; what counts is that each comes soon.
        drop(Template::parse(&xml, &TemplateRules::rest()));
    }
    // All of it takes about 0.3 s without optimisation; quadratic work would take minutes.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
