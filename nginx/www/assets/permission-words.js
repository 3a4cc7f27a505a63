// What a scope allows, as the end of "Can …" and of "Permission to … is missing". Scopes are named as provider files name
// them, after scope_aliases. A scope without words is shown by its last part.

export const PERMISSION_WORDS = {
  'https://www.googleapis.com/auth/gmail.readonly': 'read your Gmail messages',
  'https://www.googleapis.com/auth/gmail.metadata': 'see the headers and labels of your Gmail messages',
  'https://www.googleapis.com/auth/gmail.labels': 'see your Gmail labels',
  'https://www.googleapis.com/auth/calendar.readonly': 'read your calendars',
  'https://www.googleapis.com/auth/calendar.events.readonly': 'read the events in your calendars',
  'https://www.googleapis.com/auth/calendar.calendarlist.readonly': 'see the list of your calendars',
  'https://www.googleapis.com/auth/calendar.freebusy': 'see when you are busy',
  'https://www.googleapis.com/auth/drive.readonly': 'read your files in Drive',
  'https://www.googleapis.com/auth/drive.metadata.readonly': 'see the names and details of your files in Drive',
};
