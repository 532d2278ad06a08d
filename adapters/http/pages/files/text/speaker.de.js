// What the speaker’s page says, in German.
export default {
  "title": "Gapless: Aufnahme",
  // before a recording
  "ready.title": "Mikrofon aufnehmen",
  "ready.invited": "Einladung zu einer Aufnahme",
  "ready.for.name": "Für {name}",
  "ready.for.room": "Raum: {room}",
  "ready.expired": "Dieser Link ist abgelaufen.",
  "ready.expired.what":
    "Bitte nach einem neuen fragen. Was damit aufgenommen wurde, ist nicht verloren.",
  "ready.microphone": "Mikrofon",
  "ready.microphone.nameless": "Mikrofon {number}",
  "ready.record": "Aufnahme starten",
  "ready.promise":
    "Vor dem Start wird nichts gesendet. Eine Kopie bleibt auf diesem Gerät, bis der Server alles hat.",
  "level.label": "Pegel des Mikrofons",
  "mode.label": "Was aufgenommen wird",
  "mode.voice": "Sprache",
  "mode.music": "Musik",
  "mode.voice.about": "Der Browser entfernt Echo und Rauschen. Ein Kanal.",
  "mode.music.about":
    "Der Klang bleibt, wie er ist. Zwei Kanäle, wenn das Mikrofon sie hat. Bitte Kopfhörer benutzen.",
  "hearing.listening": "Bitte etwas sagen.",
  "hearing.asleep": "Bitte die Seite berühren oder anklicken: vorher hört der Browser nicht zu.",
  "hearing.good": "Der Pegel ist gut.",
  "hearing.silent": "Es ist nichts zu hören.",
  "hearing.clips": "Zu laut: es übersteuert. Mehr Abstand halten oder das Mikrofon leiser stellen.",
  "hearing.low": "Sehr leise. Näher herangehen oder das Mikrofon lauter stellen.",
  "wrong.silent": "Ist das das richtige Mikrofon?",
  "wrong.silent.others":
    "Von ihm ist nichts zu hören. Vielleicht ist es ausgeschaltet, oder Sie sprechen in ein anderes: dann oben wählen.",
  "wrong.silent.what":
    "Von ihm ist nichts zu hören. Vielleicht ist es ausgeschaltet oder in den Einstellungen dieses Geräts leise gestellt.",
  "wrong.virtual": "Das ist vielleicht kein Mikrofon.",
  "wrong.virtual.what":
    "Seinem Namen nach liefert es, was der Computer abspielt, nicht, was Sie sagen.",
  // the permission
  "permission.why":
    "Der Browser fragt, ob diese Seite das Mikrofon benutzen darf. Danach können Sie es hier prüfen und wählen; gesendet wird noch nichts.",
  "permission.allow": "Mikrofon wählen",
  "permission.asking": "Bitte das Mikrofon erlauben",
  "permission.denied": "Das Mikrofon ist nicht erlaubt.",
  "permission.denied.what":
    "Bitte im Browser erlauben: über das Symbol neben der Adresse, danach noch einmal versuchen.",
  "permission.none": "Es gibt kein Mikrofon.",
  "permission.none.what": "Bitte eines anschließen und noch einmal versuchen.",
  "permission.busy": "Das Mikrofon lässt sich nicht öffnen.",
  "permission.busy.what":
    "Vielleicht benutzt es ein anderes Programm. Bitte dieses schließen und noch einmal versuchen.",
  "permission.insecure": "Diese Adresse ist nicht sicher.",
  "permission.insecure.what":
    "Browser öffnen Mikrofone nur auf Seiten mit https. Bitte nach einem Link fragen, der mit https beginnt.",
  "permission.unsupported": "Dieser Browser kann nicht aufnehmen.",
  "permission.unsupported.what":
    "Bitte den Link in einem aktuellen Chrome, Edge, Firefox oder Safari öffnen.",
  // while it records
  "running.title": "Aufnahme läuft",
  "running.paused": "Angehalten",
  "running.muted": "Stumm",
  "running.held": "Aufgenommen wird Stille.",
  "running.pause": "Pause",
  "running.resume": "Weiter",
  "running.mute": "Stumm",
  "running.unmute": "Ton an",
  "running.stop": "Beenden",
  "running.other": "Anderes Mikrofon benutzen",
  "running.clips": "Zu laut: es übersteuert.",
  "running.silent": "Es ist nichts mehr zu hören.",
  "running.promise": "Bitte diese Seite offen und den Bildschirm an lassen.",
  "connection.connecting": "Verbindung wird hergestellt",
  "connection.connecting.about": "Die Aufnahme läuft schon.",
  "connection.live": "Verbunden",
  "connection.restarting": "Verbindung verloren, wird wiederhergestellt",
  "connection.restarting.about":
    "Sprechen Sie ruhig weiter. Es geht nichts verloren: alles bleibt hier und wird später gesendet.",
  "connection.waiting": "Der Server ist nicht erreichbar",
  "connection.waiting.about":
    "Sprechen Sie ruhig weiter. Alles bleibt hier und wird gesendet, sobald der Server wieder erreichbar ist. {detail}",
  "connection.offline": "Kein Netz",
  "connection.offline.about":
    "Sprechen Sie ruhig weiter. Alles bleibt hier und wird gesendet, sobald das Netz wieder da ist.",
  "connection.blocked": "Dieses Netz blockiert den Live-Ton",
  "connection.blocked.about":
    "Sprechen Sie ruhig weiter. Die Aufnahme kommt trotzdem vollständig an, nur später.",
  "connection.over": "Der Server hat diese Aufnahme beendet",
  "connection.over.about":
    "Hier läuft sie weiter und wird gesendet. Live hört sie niemand. Zum Abschluss auf Beenden drücken.",
  "connection.refused": "Der Server nimmt von dieser Seite keinen Live-Ton mehr an",
  "connection.refused.about":
    "Hier läuft die Aufnahme weiter. Zum Abschluss auf Beenden drücken. Der Server sagt: {detail}",
  "connection.closed": "Beendet",
  "connection.closed.about": "Der Rest wird gesendet.",
  "connection.unkept": "Was jetzt gesagt wird, geht verloren: hier bleibt keine Kopie.",
  "safe.until": "Sicher auf dem Server: {time}",
  "safe.owed": "Weitere {time} liegen auf diesem Gerät, bis der Server sie hat.",
  "safe.all": "Alles bis jetzt.",
  "keeping.memory": "Dieser Browser behält hier keine Dateien.",
  "keeping.memory.what":
    "Was noch nicht sicher auf dem Server ist, geht verloren, wenn diese Seite geschlossen wird. Besser kein privates Fenster benutzen.",
  "keeping.none": "Auf diesem Gerät bleibt keine Kopie.",
  "keeping.none.what": "Was das Netz verliert, bleibt verloren.",
  "incident.mute": "Das Mikrofon ist vom System stumm geschaltet.",
  "incident.mute.what":
    "Ein Schalter am Gerät, eine Taste oder ein Anruf war das. Bis dahin wird Stille aufgenommen.",
  "incident.ended": "Das Mikrofon ist weg.",
  "incident.ended.what":
    "Bitte wieder anschließen: die Aufnahme geht von selbst weiter. Bis dahin wird Stille aufgenommen. {device}",
  "incident.back": "Das Mikrofon ist wieder da.",
  "incident.back.what": "Die Aufnahme geht weiter. Solange es weg war, wurde Stille aufgenommen.",
  "incident.interrupted": "Der Browser hat das Mikrofon unterbrochen.",
  "incident.interrupted.what":
    "Zum Fortsetzen die Seite berühren. Anrufe und ein gesperrter Bildschirm lösen das aus.",
  "incident.other": "Jetzt wird ein anderes Mikrofon benutzt.",
  "incident.other.what": "Es ist {device}.",
  "incident.stall": "Etwa {seconds} s wurden nicht aufgenommen.",
  "incident.stall.what":
    "Gerät oder Browser standen so lange still. In der Aufnahme sind dort {seconds} s Stille.",
  "incident.full": "Der Speicher dieses Geräts ist voll.",
  "incident.full.what": "Der Live-Ton geht weiter zum Server, aber es bleibt keine Kopie mehr.",
  "incident.quiet": "Die Kopie auf diesem Gerät ist fehlgeschlagen.",
  "incident.quiet.what": "Der Live-Ton geht weiter zum Server. {device}",
  "messages.label": "Nachrichten aus dem Studio",
  "messages.from": "Aus dem Studio, {time}",
  "messages.seen": "Gelesen",
  // after a recording
  "finishing.title": "Der Rest wird gesendet",
  "finishing.about": "Noch {owed} von {all} zu senden",
  "finishing.away": "Der Server ist nicht erreichbar. Es geht von selbst weiter.",
  "finishing.keep":
    "Bitte diese Seite offen lassen. Wird sie geschlossen, bitte auf diesem Gerät wieder öffnen: dann wird der Rest gesendet.",
  "finished.safe": "Fertig",
  "finished.safe.word": "Alles ist auf dem Server",
  "finished.safe.about": "Diese Seite kann geschlossen werden.",
  "finished.live": "Fertig",
  "finished.live.word": "Die Aufnahme ist auf dem Server",
  "finished.live.about":
    "Sie enthält, was das Netz gebracht hat. Diese Seite kann geschlossen werden.",
  "finished.owed": "Noch nicht alles ist gesendet",
  "finished.owed.word": "Der Rest liegt auf diesem Gerät",
  "finished.owed.about":
    "Bitte diese Seite später auf diesem Gerät wieder öffnen, oder die Aufnahme speichern und selbst schicken.",
  "finished.lost": "Nichts wurde aufgenommen",
  "finished.lost.word": "Der Server war nicht erreichbar",
  "finished.lost.about": "Dieser Browser behält hier keine Kopie, daher ist der Ton verloren.",
  "finished.figures": "Zahlen",
  "finished.length": "Länge",
  "finished.retry": "Noch einmal versuchen",
  "finished.save": "Als WAV speichern",
  "finished.again": "Noch einmal aufnehmen",
  "refused.title": "Diese Aufnahme kann nicht beginnen",
  "refused.link": "Dieser Link ist nicht mehr gültig.",
  "refused.link.what":
    "Er ist abgelaufen, schon benutzt oder zurückgenommen. Bitte nach einem neuen fragen.",
  "refused.401": "Dieser Server braucht eine Einladung.",
  "refused.401.what": "Bitte den ganzen Link öffnen, der Ihnen geschickt wurde.",
  "refused.403": "Dieser Link erlaubt das nicht.",
  "refused.403.what": "Bitte nach einem anderen fragen.",
  "refused.404": "Dieser Server nimmt unter dieser Adresse keine Aufnahmen an.",
  "refused.404.what": "Bitte den Link prüfen.",
  "refused.other": "Der Server lehnt ab.",
  "refused.other.what": "Der Grund steht darunter.",
  "debts.label": "Frühere Aufnahmen",
  "debts.title": "Von einer früheren Aufnahme",
  "debts.nameless": "Aufnahme",
  "debts.waiting": "{owed} sind noch nicht auf dem Server.",
  "debts.sending": "{owed} werden gesendet.",
  "debts.sent": "Jetzt ist alles auf dem Server.",
  "debts.refused": "Der Server nimmt {owed} nicht mehr an. {detail}",
  "debts.elsewhere":
    "{owed} wurden mit einer anderen Einladung aufgenommen. Zum Senden bitte deren Link hier öffnen.",
  "debts.continue": "Aufnahme fortsetzen",
  "debts.discard": "Hier löschen",
};
